-- What running attempts leave. One seek in run per token. Runs under the write lock.

-- :name holds
SELECT request, fence FROM run WHERE n = ?1

-- :name progress
INSERT INTO live (n, progress) VALUES (?1, ?2) ON CONFLICT (n) DO UPDATE SET progress = ?2

-- :name checkpoint
INSERT INTO live (n, checkpoint) VALUES (?1, ?2) ON CONFLICT (n) DO UPDATE SET checkpoint = ?2

-- :name replaced
SELECT l.checkpoint, j.id, coalesce(j.body, p.body)
FROM live l JOIN job j ON j.n = l.n LEFT JOIN payload p ON p.n = l.n
WHERE l.n = ?1 AND length(l.checkpoint) <= ?2

-- :name deadline
UPDATE run SET deadline_at = ?2 WHERE n = ?1
