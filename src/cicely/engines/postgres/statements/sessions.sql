-- join, beat, retire and the list of sessions. Indexes: session.key, run_session.
-- Locks: session rows in the order of their keys, before anything else.

-- :name member
SELECT id, facts, closed_at FROM session WHERE key = %(key)s

-- :name enter
SELECT id, facts FROM session WHERE key = %(key)s AND closed_at IS NULL FOR KEY SHARE

-- :name join
INSERT INTO session (key, facts, lease_s, joined_at, beat_at)
VALUES (%(key)s, %(facts)s, %(lease_s)s, %(now)s, %(now)s) ON CONFLICT (key) DO NOTHING RETURNING id

-- :name beating
SELECT id, beat, doubted FROM session WHERE key = %(key)s AND closed_at IS NULL FOR NO KEY UPDATE

-- :name beat
UPDATE session SET beat = %(beat)s, beat_at = %(now)s, doubted = %(doubted)s WHERE id = %(id)s

-- :name trust
UPDATE session SET doubted = NULL WHERE id = %(id)s

-- :name leave
SELECT id, facts FROM session WHERE key = %(key)s AND closed_at IS NULL FOR UPDATE

-- :name silent
SELECT id, facts FROM session WHERE key = %(key)s AND beat = %(beat)s AND closed_at IS NULL FOR UPDATE

-- :name close
UPDATE session SET closed_at = %(now)s WHERE id = %(id)s

-- :name open_sessions
SELECT key, facts, beat, joined_at, beat_at,
       (SELECT count(*) FROM run WHERE run.session = session.id)
FROM session WHERE closed_at IS NULL ORDER BY id

-- :name held_tokens
SELECT n, request, fence, cancelling FROM run WHERE session = %(session)s ORDER BY n FOR UPDATE

-- :name forget_closed
DELETE FROM session WHERE id IN (
    SELECT id FROM session WHERE closed_at <= %(before)s LIMIT %(batch)s FOR UPDATE SKIP LOCKED
)

-- :name open_facts
SELECT key, facts FROM session WHERE closed_at IS NULL
