-- What a person does to jobs and queues. Indexes: job.id, primary keys. Runs under the write lock.

-- :name by_id
SELECT n FROM job WHERE id = ?1

-- :name mark
UPDATE run SET cancelling = 1 WHERE n = ?1

-- :name reason
UPDATE job SET reason = ?2 WHERE n = ?1

-- :name worker
SELECT key, facts FROM session WHERE id = ?1 AND closed_at IS NULL

-- :name end
SELECT state, ended_at, started_at, session, request, fence, attempt, outcome, error
FROM done WHERE n = ?1

-- :name undone
DELETE FROM done WHERE n = ?1

-- :name revive
UPDATE job SET errors = 0, crashes = 0, lost = 0, fence = ?2, attempt = ?3, started_at = ?4, rank = ?5,
               reason = ?6, due_at = NULL, expires_at = NULL, shuns = NULL
WHERE n = ?1

-- :name clear_error
UPDATE live SET error = NULL WHERE n = ?1

-- :name paused
SELECT paused FROM queue WHERE name = ?1

-- :name pause
INSERT INTO queue (name, paused) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET paused = ?2

-- :name mend
UPDATE job SET id = ?2, lane = ?3, reason = ?4, unique_key = NULL, tags = NULL WHERE n = ?1

-- :name raw
SELECT CAST(id AS BLOB), CAST(lane AS BLOB), CAST(reason AS BLOB) FROM job WHERE n = ?1
