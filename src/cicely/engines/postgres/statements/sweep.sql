-- Upkeep in bounded steps. Each duty reads the head of the index that is ordered by its instant:
-- deferred, expiring, run_deadline, done_<part>_delete_at_idx, receipt_until, tomb_until, blob_watch.
-- Locks: those heads, passing over what another sweep has locked, so that any number may run at once.

-- :name promote
WITH due AS MATERIALIZED (
    SELECT ctid AS place, n FROM deferred WHERE due_at <= %(now)s
    ORDER BY due_at, n LIMIT %(batch)s FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM deferred d USING due WHERE d.ctid = due.place RETURNING d.n
)
INSERT INTO ready (part, queue, stream, class, rank, n)
SELECT (SELECT last_value FROM ready_turn), j.queue, coalesce(j.stream, 0), j.class, j.rank, j.n
FROM gone JOIN job j ON j.n = gone.n
ON CONFLICT DO NOTHING
RETURNING queue, n, stream,
          CASE WHEN stream <> 0 THEN (SELECT j.traits & 256 <> 0 FROM job j WHERE j.n = ready.n) ELSE false END

-- late locks nothing: where a job stands is locked before its row in expiring, here as in a claim.

-- :name late
SELECT expires_at, n FROM expiring WHERE expires_at <= %(now)s ORDER BY expires_at, n LIMIT %(batch)s

-- :name overdue
SELECT n FROM run WHERE deadline_at <= %(now)s
ORDER BY deadline_at LIMIT %(batch)s FOR UPDATE SKIP LOCKED

-- :name old
SELECT d.n, j.traits, d.delete_at FROM done_0 d LEFT JOIN job j ON j.n = d.n WHERE d.delete_at <= %(now)s
ORDER BY d.delete_at LIMIT %(batch)s FOR UPDATE OF d SKIP LOCKED

-- One sweep at a time looks after the days; their ends stay, so it begins where the last one stopped.
-- :name swept
SELECT day, swept_at FROM day
WHERE day * 86400.0::float8 <= %(now)s AND swept_at < (day + 1) * 86400.0::float8
ORDER BY day FOR UPDATE SKIP LOCKED

-- :name old_of_day
SELECT d.n, j.traits, d.delete_at FROM done_DAY d JOIN job j ON j.n = d.n
WHERE d.delete_at >= %(since)s AND d.delete_at <= %(now)s
ORDER BY d.delete_at LIMIT %(batch)s FOR UPDATE OF d SKIP LOCKED

-- :name sweep_on
UPDATE day SET swept_at = %(at)s WHERE day = %(day)s

-- :name keep_longer
UPDATE done SET delete_at = %(until)s, day = 0 WHERE n = ANY(%(ns)b::bigint[])

-- :name remains
SELECT j.n, j.id, j.class, j.queue, j.remember_s, j.tags, d.state, d.ended_at, d.request, d.fence,
       d.outcome, coalesce(s.lease_s, 30.0), j.traits
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
DELETE FROM done_0 WHERE n = ANY(%(ns)b::bigint[])

-- :name delete_attempt
DELETE FROM attempt WHERE n = ANY(%(ns)b::bigint[])

-- :name delete_live
DELETE FROM live WHERE n = ANY(%(ns)b::bigint[])

-- :name forsake
INSERT INTO gone (n, id) SELECT n, id FROM job
WHERE n = ANY(%(ns)b::bigint[]) AND EXISTS (SELECT FROM edge WHERE parent = job.n)
ON CONFLICT (n) DO NOTHING

-- :name cut
DELETE FROM edge WHERE child = ANY(%(ns)b::bigint[]) RETURNING parent

-- :name forget_gone
DELETE FROM gone WHERE n = ANY(%(ns)b::bigint[]) AND NOT EXISTS (SELECT FROM edge WHERE parent = gone.n)

-- :name drop_node
DELETE FROM node WHERE n = ANY(%(ns)b::bigint[])

-- :name drop_label
DELETE FROM label WHERE n = ANY(%(ns)b::bigint[])

-- :name drop_held
DELETE FROM held WHERE n = ANY(%(ns)b::bigint[]) AND workflow = ANY(%(workflows)b::text[])

-- :name drop_step
DELETE FROM step WHERE n = ANY(%(ns)b::bigint[])

-- :name drop_arrival
DELETE FROM arrival WHERE child = ANY(%(ns)b::bigint[])

-- :name workflows_of
SELECT DISTINCT workflow FROM label WHERE n = ANY(%(ns)b::bigint[])

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
    SELECT part, ctid AS place FROM delta LIMIT %(batch)s FOR UPDATE SKIP LOCKED
), gone_0 AS (
    DELETE FROM delta_0 WHERE ctid = ANY(ARRAY(SELECT place FROM part WHERE part = 0)) RETURNING *
), gone_1 AS (
    DELETE FROM delta_1 WHERE ctid = ANY(ARRAY(SELECT place FROM part WHERE part = 1)) RETURNING *
), gone_2 AS (
    DELETE FROM delta_2 WHERE ctid = ANY(ARRAY(SELECT place FROM part WHERE part = 2)) RETURNING *
), gone_3 AS (
    DELETE FROM delta_3 WHERE ctid = ANY(ARRAY(SELECT place FROM part WHERE part = 3)) RETURNING *
), gone AS (
    TABLE gone_0 UNION ALL TABLE gone_1 UNION ALL TABLE gone_2 UNION ALL TABLE gone_3
), rolled AS (
    INSERT INTO rollup AS r (minute, word, queue, class, name, bucket, count, sum_us)
    SELECT minute, word, queue, class, name, bucket, sum(count), sum(sum_us) FROM gone WHERE word IS NOT NULL
    GROUP BY minute, word, queue, class, name, bucket ORDER BY minute, word, queue, class, name, bucket
    ON CONFLICT (minute, word, queue, class, name, bucket) DO UPDATE
    SET count = r.count + excluded.count, sum_us = r.sum_us + excluded.sum_us
)
INSERT INTO counter AS c (queue, scheduled, ready, running, succeeded, failed, cancelled, expired, waiting)
SELECT queue, sum(scheduled), sum(ready), sum(running), sum(succeeded), sum(failed), sum(cancelled),
       sum(expired), sum(waiting)
FROM gone GROUP BY queue ORDER BY queue
ON CONFLICT (queue) DO UPDATE SET
    scheduled = c.scheduled + excluded.scheduled, ready = c.ready + excluded.ready,
    running = c.running + excluded.running, succeeded = c.succeeded + excluded.succeeded,
    failed = c.failed + excluded.failed, cancelled = c.cancelled + excluded.cancelled,
    expired = c.expired + excluded.expired, waiting = c.waiting + excluded.waiting
