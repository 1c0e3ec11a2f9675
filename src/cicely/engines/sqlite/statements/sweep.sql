-- Upkeep in bounded steps. Each duty reads the head of the index that is ordered by its instant:
-- deferred, expiring, run_deadline, sweepable, receipt_until, tomb_until, blob_watch.
-- Runs under the write lock.

-- :name due
SELECT d.due_at, d.n, j.queue, j.flags, j.lane <> '' OR j.flow IS NOT NULL OR j.shuns IS NOT NULL
FROM deferred d LEFT JOIN job j ON j.n = d.n
WHERE d.due_at <= ?1 ORDER BY d.due_at, d.n LIMIT ?2

-- :name make_ready
INSERT OR IGNORE INTO ready (queue, class, rank, n)
SELECT queue, class, rank, n FROM job WHERE n IN carray(?1)

-- :name promote
UPDATE job SET due_at = NULL WHERE n IN carray(?1)

-- :name late
SELECT expires_at, n FROM expiring WHERE expires_at <= ?1 ORDER BY expires_at, n LIMIT ?2

-- :name overdue
SELECT n FROM run WHERE deadline_at <= ?1 ORDER BY deadline_at LIMIT ?2

-- :name old
SELECT delete_at, n FROM sweepable WHERE delete_at <= ?1 ORDER BY delete_at, n LIMIT ?2

-- :name unsweepable
DELETE FROM sweepable WHERE delete_at = ? AND n = ?

-- :name remains
SELECT j.n, j.id, j.class, j.queue, j.remember_s, j.tags, d.state, d.ended_at, d.request, d.fence,
       d.outcome, coalesce(s.lease_s, 30.0), j.flags,
       d.ended_at + CASE d.state WHEN 4 THEN j.keep_failed_s ELSE j.keep_s END
FROM carray(?1) c JOIN job j ON j.n = c.value JOIN done d ON d.n = j.n
LEFT JOIN session s ON s.id = d.session

-- :name tomb
INSERT OR REPLACE INTO tomb (id, class, queue, state, until_at) VALUES (?, ?, ?, ?, ?)

-- :name untag
DELETE FROM tag WHERE tag = ? AND n = ?

-- :name delete_job
DELETE FROM job WHERE n IN carray(?1)

-- :name delete_payload
DELETE FROM payload WHERE n IN carray(?1)

-- :name delete_done
DELETE FROM done WHERE n IN carray(?1)

-- :name delete_attempt
DELETE FROM attempt WHERE n IN carray(?1)

-- :name delete_live
DELETE FROM live WHERE n IN carray(?1)

-- :name delete_node_too
DELETE FROM node WHERE n IN carray(?1)

-- :name delete_step_too
DELETE FROM step WHERE n IN carray(?1)

-- :name waste_blobs
INSERT OR IGNORE INTO waste (job, digest) SELECT job, digest FROM blob WHERE job = ?1 AND chunk = 0

-- :name forget_receipts
DELETE FROM receipt WHERE token IN (SELECT token FROM receipt WHERE until_at <= ?1 LIMIT ?2)

-- :name forget_tombs
DELETE FROM tomb WHERE id IN (SELECT id FROM tomb WHERE until_at <= ?1 LIMIT ?2)

-- :name orphans
SELECT w.check_at, w.job, w.digest, EXISTS (SELECT 1 FROM job WHERE id = w.job)
FROM blob_watch w WHERE w.check_at <= ?1 ORDER BY w.check_at LIMIT ?2
