-- Handing out ready jobs. The primary key of ready is (queue, lane, class, rank, n): pairs of lane and
-- class are found by one seek each, and what cannot be taken is never scanned.
-- Locks: the session (KEY SHARE, so that it cannot be closed meanwhile), then ready rows, passing over
-- those that another claim has locked.

-- :name queues
SELECT id, name FROM queue WHERE name = ANY(%(names)b::text[]) AND NOT paused

-- :name pairs
WITH RECURSIVE pair (queue, lane, class, rank, n) AS (
    SELECT first.* FROM unnest(%(queues)b::int[]) AS q (id), LATERAL (
        SELECT queue, lane, class, rank, n FROM ready WHERE queue = q.id
        ORDER BY queue, lane, class, rank, n LIMIT 1
    ) AS first
    UNION ALL
    SELECT next.* FROM pair, LATERAL (
        SELECT r.queue, r.lane, r.class, r.rank, r.n FROM ready r
        WHERE r.queue = pair.queue AND (r.lane, r.class, r.rank, r.n)
              > (pair.lane, pair.class, 9223372036854775807, 9223372036854775807)
        ORDER BY r.queue, r.lane, r.class, r.rank, r.n LIMIT 1
    ) AS next
)
SELECT queue, lane, class, rank, n FROM pair LIMIT 1000

-- :name heads
WITH head AS MATERIALIZED (
    SELECT ctid AS place, rank, n FROM ready
    WHERE queue = %(queue)s AND lane = %(lane)s AND class = %(class)s
      AND (rank, n) > (%(rank)s::bigint, %(n)s::bigint)
    ORDER BY rank, n LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)
SELECT h.rank, h.n, j.id, j.created_at, j.expires_at, j.errors, j.crashes, j.lost, j.fence, j.options,
       j.body, CASE WHEN j.fence > 0 THEN (SELECT checkpoint FROM live WHERE live.n = h.n) END,
       h.place::text
FROM head h JOIN job j ON j.n = h.n ORDER BY h.rank, h.n

-- :name start
WITH taken AS (
    DELETE FROM ready WHERE ctid = ANY(%(places)b::text[]::tid[])
), started AS (
    DELETE FROM expiring e USING unnest(%(expire_ats)b::float8[], %(expire_ns)b::bigint[]) AS i (at, n)
    WHERE e.expires_at = i.at AND e.n = i.n
)
INSERT INTO run (n, session, request, fence, claimed_at, deadline_at)
SELECT i.n, %(session)s, %(request)s, i.fence, %(now)s, %(deadline_at)s
FROM unnest(%(ns)b::bigint[], %(fences)b::int[]) AS i (n, fence)

-- :name repeated
SELECT r.fence, r.n, j.id, j.created_at, j.expires_at, j.errors, j.crashes, j.lost, r.fence - 1, j.options,
       j.body, (SELECT checkpoint FROM live WHERE live.n = r.n), '', j.class, j.queue
FROM run r JOIN job j ON j.n = r.n
WHERE r.session = %(session)s AND r.request = %(request)s ORDER BY r.n

-- :name next_due
SELECT due_at FROM deferred ORDER BY due_at LIMIT 1
