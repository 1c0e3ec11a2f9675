-- Jobs that wait, their steps, and events. Indexes: step (n, k), step_key, event.id, event_free, event_sent,
-- node_event. All but `steps` run under the write lock.

-- :name step
INSERT INTO step (n, k, key, value)
SELECT ?1, coalesce((SELECT max(k) FROM step WHERE n = ?1), 0) + 1, ?2, ?3
WHERE NOT EXISTS (SELECT 1 FROM step WHERE n = ?1 AND key = ?2)

-- :name steps
SELECT key, value FROM step WHERE n = (SELECT n FROM job WHERE id = ?1) AND k > ?2 ORDER BY k LIMIT ?3

-- :name known
SELECT 1 FROM event WHERE id = ?1

-- :name send
INSERT INTO event (id, name, key, value, sent_at, taken) VALUES (?, ?, ?, ?, ?, ?)

-- :name oldest
SELECT seq, value FROM event WHERE name = ?1 AND key = ?2 AND taken = 0 ORDER BY seq LIMIT 1

-- :name take
UPDATE event SET taken = 1, value = x'' WHERE seq = ?1

-- :name forget
DELETE FROM event WHERE seq IN (SELECT seq FROM event WHERE sent_at <= ?1 LIMIT ?2)

-- :name await
UPDATE node SET event = ?2, event_key = ?3, event_step = ?4 WHERE n = ?1

-- :name awaiting
SELECT n, event_step FROM node WHERE event = ?1 AND event_key = ?2 ORDER BY n LIMIT 1

-- :name due
UPDATE job SET due_at = ?2 WHERE n = ?1

-- :name awaited
SELECT id, due_at FROM job WHERE n = ?1

-- :name awaited_in_vain
SELECT n, event_step FROM node WHERE n IN carray(?1) AND event IS NOT NULL
