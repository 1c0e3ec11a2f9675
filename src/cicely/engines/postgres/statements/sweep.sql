-- Upkeep in bounded steps. Each duty reads the head of the index that is ordered by its instant:
-- deferred, expiring, run_deadline, done_delete, receipt_until, tomb_until, blob_watch.
-- Locks: those heads, passing over what another sweep has locked, so that any number may run at once.

-- :name promote
WITH due AS MATERIALIZED (
    SELECT ctid AS place, n FROM deferred WHERE due_at <= %(now)s
    ORDER BY due_at, n LIMIT %(batch)s FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM deferred d USING due WHERE d.ctid = due.place RETURNING d.n
)
INSERT INTO ready (queue, lane, class, rank, n)
SELECT j.queue, j.lane, j.class, j.rank, j.n FROM gone JOIN job j ON j.n = gone.n
ON CONFLICT DO NOTHING
RETURNING queue

-- late locks nothing: where a job stands is locked before its row in expiring, here as in a claim.

-- :name late
SELECT expires_at, n FROM expiring WHERE expires_at <= %(now)s ORDER BY expires_at, n LIMIT %(batch)s

-- :name overdue
SELECT n FROM run WHERE deadline_at <= %(now)s
ORDER BY deadline_at LIMIT %(batch)s FOR UPDATE SKIP LOCKED

-- :name old
SELECT n FROM done WHERE delete_at <= %(now)s
ORDER BY delete_at LIMIT %(batch)s FOR UPDATE SKIP LOCKED

-- :name remains
SELECT j.n, j.id, j.class, j.queue, j.remember_s, j.tags, d.state, d.ended_at, d.request, d.fence,
       d.outcome, coalesce(s.lease_s, 30.0)
FROM job j JOIN done d ON d.n = j.n LEFT JOIN session s ON s.id = d.session
WHERE j.n = ANY(%(ns)b::bigint[]) ORDER BY j.n

-- :name tomb
INSERT INTO tomb (id, class, queue, state, until_at) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (id) DO UPDATE SET class = excluded.class, queue = excluded.queue, state = excluded.state,
                               until_at = excluded.until_at

-- :name untag
DELETE FROM tag WHERE tag = %s AND n = %s

-- :name delete_job
DELETE FROM job WHERE n = ANY(%(ns)b::bigint[])

-- :name delete_done
DELETE FROM done WHERE n = ANY(%(ns)b::bigint[])

-- :name delete_attempt
DELETE FROM attempt WHERE n = ANY(%(ns)b::bigint[])

-- :name delete_live
DELETE FROM live WHERE n = ANY(%(ns)b::bigint[])

-- :name delete_blob
DELETE FROM blob WHERE job = ANY(%(ids)b::text[])

-- :name forget_receipts
DELETE FROM receipt WHERE token IN (
    SELECT token FROM receipt WHERE until_at <= %(now)s LIMIT %(batch)s FOR UPDATE SKIP LOCKED
)

-- :name forget_tombs
DELETE FROM tomb WHERE id IN (
    SELECT id FROM tomb WHERE until_at <= %(now)s LIMIT %(batch)s FOR UPDATE SKIP LOCKED
)

-- :name orphans
SELECT w.check_at, w.job, w.digest, EXISTS (SELECT 1 FROM job WHERE id = w.job)
FROM blob_watch w WHERE w.check_at <= %(now)s ORDER BY w.check_at LIMIT %(batch)s
FOR UPDATE OF w SKIP LOCKED

-- :name fold
WITH part AS MATERIALIZED (
    SELECT ctid AS place FROM delta LIMIT %(batch)s FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM delta d USING part WHERE d.ctid = part.place RETURNING d.*
)
INSERT INTO counter AS c (queue, scheduled, ready, running, succeeded, failed, cancelled, expired)
SELECT queue, sum(scheduled), sum(ready), sum(running), sum(succeeded), sum(failed), sum(cancelled), sum(expired)
FROM gone GROUP BY queue ORDER BY queue
ON CONFLICT (queue) DO UPDATE SET
    scheduled = c.scheduled + excluded.scheduled, ready = c.ready + excluded.ready,
    running = c.running + excluded.running, succeeded = c.succeeded + excluded.succeeded,
    failed = c.failed + excluded.failed, cancelled = c.cancelled + excluded.cancelled,
    expired = c.expired + excluded.expired
