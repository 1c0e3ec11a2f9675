-- What running attempts leave. One seek in run per token. Runs under the write lock.

-- :name holds
SELECT request, fence FROM run WHERE n = ?1

-- :name progress
INSERT INTO live (n, progress) VALUES (?1, ?2) ON CONFLICT (n) DO UPDATE SET progress = ?2

-- :name checkpoint
INSERT INTO live (n, checkpoint) VALUES (?1, ?2) ON CONFLICT (n) DO UPDATE SET checkpoint = ?2

-- :name deadline
UPDATE run SET deadline_at = ?2 WHERE n = ?1
