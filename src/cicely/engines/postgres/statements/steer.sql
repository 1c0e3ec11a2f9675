-- What a person does to jobs and queues. Indexes: job.id, primary keys.
-- Locks: where the jobs stand (see lock_* of settle), all of them before the first is moved.

-- :name by_ids
SELECT n FROM job WHERE id = ANY(%(ids)b::text[])

-- :name mark
UPDATE run SET cancelling = true WHERE n = %s

-- :name reason
UPDATE job SET reason = %s WHERE n = %s

-- :name worker
SELECT key, facts FROM session WHERE id = %s AND closed_at IS NULL

-- :name pause
INSERT INTO queue (name, paused, is_steered) VALUES (%(name)s, true, false)
ON CONFLICT (name) DO UPDATE SET paused = true WHERE NOT queue.paused
RETURNING id

-- :name is_paused
SELECT paused FROM queue WHERE name = %(name)s FOR UPDATE

-- :name resume
INSERT INTO queue (name, is_steered) VALUES (%(name)s, true)
ON CONFLICT (name) DO UPDATE SET paused = false, is_steered = true
