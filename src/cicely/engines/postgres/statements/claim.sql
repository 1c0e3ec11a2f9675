-- Handing out ready jobs. The primary key of ready is (queue, lane, class, rank, n): pairs of lane and
-- class are found by one seek each, and what cannot be taken is never scanned.
-- Locks: the session (KEY SHARE, so that it cannot be closed meanwhile), then ready rows, passing over
-- those that another claim has locked. A place is one in its part of ready only.

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
    SELECT part, ctid AS place, rank, n FROM ready
    WHERE queue = %(queue)s AND lane = %(lane)s AND class = %(class)s
      AND (rank, n) > (%(rank)s::bigint, %(n)s::bigint)
    ORDER BY rank, n LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)
SELECT h.rank, h.n, j.id, j.created_at, j.expires_at, j.errors, j.crashes, j.lost, j.fence, j.options,
       j.body, CASE WHEN j.fence > 0 THEN (SELECT checkpoint FROM live WHERE live.n = h.n) END,
       h.place::text, h.part, j.traits
FROM head h JOIN job j ON j.n = h.n ORDER BY h.rank, h.n

-- :name start
WITH taken_0 AS (
    DELETE FROM ready_0 WHERE ctid = ANY(%(places_0)b::text[]::tid[])
), taken_1 AS (
    DELETE FROM ready_1 WHERE ctid = ANY(%(places_1)b::text[]::tid[])
), taken_2 AS (
    DELETE FROM ready_2 WHERE ctid = ANY(%(places_2)b::text[]::tid[])
), taken_3 AS (
    DELETE FROM ready_3 WHERE ctid = ANY(%(places_3)b::text[]::tid[])
), started AS (
    DELETE FROM expiring e USING unnest(%(expire_ats)b::float8[], %(expire_ns)b::bigint[]) AS i (at, n)
    WHERE e.expires_at = i.at AND e.n = i.n
)
INSERT INTO run (part, n, session, request, fence, claimed_at, deadline_at, traits)
SELECT (SELECT last_value FROM run_turn), i.n, %(session)s, %(request)s, i.fence, %(now)s, %(deadline_at)s,
       i.traits
FROM unnest(%(ns)b::bigint[], %(fences)b::int[], %(traits)b::smallint[]) AS i (n, fence, traits)

-- :name repeated
SELECT r.fence, r.n, j.id, j.created_at, j.expires_at, j.errors, j.crashes, j.lost, r.fence - 1, j.options,
       j.body, (SELECT checkpoint FROM live WHERE live.n = r.n), '', 0, r.traits | j.traits, j.class, j.queue
FROM run r JOIN job j ON j.n = r.n
WHERE r.session = %(session)s AND r.request = %(request)s ORDER BY r.n

-- :name next_due
SELECT due_at FROM deferred ORDER BY due_at LIMIT 1
