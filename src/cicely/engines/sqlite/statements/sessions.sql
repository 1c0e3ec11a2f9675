-- join, beat, retire and the list of sessions. Indexes: session.key, session_open, run_claim.
-- All but the reading ones run under the write lock.

-- :name member
SELECT id, facts, lease_s, closed_at FROM session WHERE key = ?1

-- :name join
INSERT INTO session (key, facts, lease_s, joined_at, beat_at) VALUES (?1, ?2, ?3, ?4, ?4)

-- :name beating
SELECT id, beat, doubted FROM session WHERE key = ?1 AND closed_at IS NULL

-- :name beat
UPDATE session SET beat = ?2, beat_at = ?3, doubted = ?4 WHERE id = ?1

-- :name trust
UPDATE session SET doubted = NULL WHERE id = ?1 AND doubted IS NOT NULL

-- :name close
UPDATE session SET closed_at = ?2, facts = x'' WHERE id = ?1

-- :name open_sessions
SELECT key, facts, beat, joined_at, beat_at,
       (SELECT count(*) FROM run WHERE run.session = session.id)
FROM session WHERE closed_at IS NULL ORDER BY id

-- :name held_tokens
SELECT n, request, fence, cancelling FROM run WHERE session = ?1

-- :name silent
SELECT id, facts FROM session WHERE key = ?1 AND beat = ?2 AND closed_at IS NULL

-- :name forget_closed
DELETE FROM session WHERE id IN (SELECT id FROM session WHERE closed_at <= ?1 LIMIT ?2)
