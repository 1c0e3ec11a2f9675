-- Looking at jobs, in a snapshot and without locks. Candidates come from the narrowest index, newest first.

-- :name get
SELECT id, n FROM job WHERE id = ANY(%(ids)b::text[])

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

-- :name bodies
SELECT j.n, j.body, j.options, d.result, j.flow
FROM job j LEFT JOIN done d ON d.n = j.n WHERE j.n = ANY(%(ns)b::bigint[])

-- :name attempts
SELECT a.n, a.attempt, a.fence, a.reason, a.started_at, a.ended_at, coalesce(s.key, ''),
       coalesce(a.error, ''::bytea)
FROM attempt a LEFT JOIN session s ON s.id = a.session WHERE a.n = ANY(%(ns)b::bigint[])
UNION ALL
SELECT d.n, d.attempt, d.fence, d.outcome, d.started_at, d.ended_at, coalesce(s.key, ''),
       coalesce(d.error, ''::bytea)
FROM done d LEFT JOIN session s ON s.id = d.session
WHERE d.n = ANY(%(ns)b::bigint[]) AND d.session IS NOT NULL
ORDER BY 1, 3

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
