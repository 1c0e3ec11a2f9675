-- Looking at jobs, in a snapshot and without locks. Candidates come from the narrowest index, newest first.

-- :name tombs
SELECT id, class, queue, state FROM tomb WHERE id = ANY(%(ids)b::text[])

-- :name outline
SELECT j.n, j.id, j.class, j.queue, j.lane, j.priority, j.tags, j.unique_key,
       j.errors, j.crashes, j.lost, j.attempt, j.fence, j.created_at, w.due_at, j.expires_at,
       j.started_at, j.reason, r.claimed_at, r.fence, r.cancelling,
       (SELECT key FROM session WHERE id = r.session),
       d.state, d.started_at, d.ended_at, d.fence, d.attempt, d.reason, d.error,
       l.progress, l.error, b.workflow, b.grp, g.waits, g.event, g.cause,
       CASE WHEN g.n IS NULL THEN 0 ELSE g.pending + g.held::int
           - (SELECT count(*) FROM arrival a WHERE a.child = g.n) END,
       CASE WHEN r.traits & 64 <> 0 THEN (SELECT units FROM taken WHERE taken.n = j.n) END
FROM job j LEFT JOIN deferred w ON w.due_at = j.due_at AND w.n = j.n
LEFT JOIN run r ON r.n = j.n LEFT JOIN done d ON d.n = j.n LEFT JOIN live l ON l.n = j.n
LEFT JOIN label b ON b.n = j.n LEFT JOIN node g ON g.n = j.n
WHERE j.n = ANY(%(ns)b::bigint[]) ORDER BY j.n DESC

-- All of a job in one statement, which is a snapshot by itself: as outline; its texts; its end as an attempt; the
-- attempts before that, in columns.
-- :name whole
SELECT j.n, j.id, j.class, j.queue, j.lane, j.priority, j.tags, j.unique_key,
       j.errors, j.crashes, j.lost, j.attempt, j.fence, j.created_at, w.due_at, j.expires_at,
       j.started_at, j.reason, r.claimed_at, r.fence, r.cancelling,
       (SELECT key FROM session WHERE id = r.session),
       d.state, d.started_at, d.ended_at, d.fence, d.attempt, d.reason, d.error,
       l.progress, l.error, b.workflow, b.grp, g.waits, g.event, g.cause,
       CASE WHEN g.n IS NULL THEN 0 ELSE g.pending + g.held::int
           - (SELECT count(*) FROM arrival a WHERE a.child = g.n) END,
       CASE WHEN r.traits & 64 <> 0 THEN (SELECT units FROM taken WHERE taken.n = j.n) END,
       j.body, j.options, d.result, j.flow,
       CASE WHEN d.session IS NOT NULL THEN coalesce((SELECT key FROM session WHERE id = d.session), '') END,
       d.outcome, h.*
FROM job j LEFT JOIN deferred w ON w.due_at = j.due_at AND w.n = j.n
LEFT JOIN run r ON r.n = j.n LEFT JOIN done d ON d.n = j.n LEFT JOIN live l ON l.n = j.n
LEFT JOIN label b ON b.n = j.n LEFT JOIN node g ON g.n = j.n, LATERAL (
    SELECT array_agg(a.attempt), array_agg(a.fence), array_agg(a.reason), array_agg(a.started_at),
           array_agg(a.ended_at), array_agg(coalesce(s.key, '')), array_agg(coalesce(a.error, ''::bytea))
    FROM attempt a LEFT JOIN session s ON s.id = a.session WHERE a.n = j.n
) AS h
WHERE j.id = ANY(%(ids)b::text[])

-- :name newest
SELECT n FROM job WHERE n < %(before)s ORDER BY n DESC LIMIT %(limit)s

-- :name newest_running
SELECT n FROM run WHERE n < %(before)s ORDER BY n DESC LIMIT %(limit)s

-- :name newest_ended
SELECT n FROM done
WHERE state = %(key)s AND state <> 3 AND n < %(before)s AND EXISTS (SELECT FROM job WHERE job.n = done.n)
ORDER BY n DESC LIMIT %(limit)s

-- :name newest_final
SELECT n FROM done WHERE n < %(before)s AND EXISTS (SELECT FROM job WHERE job.n = done.n)
ORDER BY n DESC LIMIT %(limit)s

-- :name newest_tagged
SELECT n FROM tag WHERE tag = %(key)s AND n < %(before)s ORDER BY n DESC LIMIT %(limit)s

-- :name newest_labelled
SELECT n FROM label WHERE workflow = %(key)s AND workflow <> '' AND n < %(before)s
ORDER BY n DESC LIMIT %(limit)s

-- :name newest_grouped
SELECT n FROM label WHERE grp = %(key)s AND grp <> '' AND n < %(before)s ORDER BY n DESC LIMIT %(limit)s

-- :name counts
SELECT q.name, q.paused, q.is_steered,
       sum(c.scheduled)::bigint, sum(c.ready)::bigint, sum(c.running)::bigint, sum(c.succeeded)::bigint,
       sum(c.failed)::bigint, sum(c.cancelled)::bigint, sum(c.expired)::bigint, sum(c.waiting)::bigint
FROM queue q LEFT JOIN (
    SELECT * FROM counter
    UNION ALL
    SELECT queue, scheduled, ready, running, succeeded, failed, cancelled, expired, waiting FROM delta
) c ON c.queue = q.id
GROUP BY q.id ORDER BY q.name
