-- Handing out plain ready jobs. The primary key of ready is (queue, stream, class, rank, n), and plain jobs
-- stand in stream 0: classes are found by one seek each, and what cannot be taken is never scanned.
-- Locks: the session (KEY SHARE, so that it cannot be closed meanwhile), then ready rows, passing over
-- those that another claim has locked. A place is one in its part of ready only.

-- What one look tells a claim: its session, which stays open until the transaction ends (NULL where it is closed);
-- whether its request was answered before, when the next job is due, whether intents are left and any queue is
-- gated; its queues that are not paused, and the pairs of these: see `pairs`. In further rows, behind so many columns,
-- the first jobs of the only pair, as `heads` has them, if there is but one and it is of `classes`.
-- :name outlook
WITH RECURSIVE me AS MATERIALIZED (
    SELECT id, facts FROM session WHERE key = %(key)s AND closed_at IS NULL FOR KEY SHARE
), open AS MATERIALIZED (
    SELECT id, name, is_gated FROM queue WHERE name = ANY(%(names)b::text[]) AND NOT paused
), pair (queue, class, rank, n) AS (
    SELECT first.* FROM open, LATERAL (
        SELECT queue, class, rank, n FROM ready WHERE queue = open.id AND stream = 0
        ORDER BY queue, stream, class, rank, n LIMIT 1
    ) AS first
    UNION ALL
    SELECT next.* FROM pair, LATERAL (
        SELECT r.queue, r.class, r.rank, r.n FROM ready r
        WHERE r.queue = pair.queue AND r.stream = 0 AND (r.class, r.rank, r.n)
              > (pair.class, 9223372036854775807, 9223372036854775807)
        ORDER BY r.queue, r.stream, r.class, r.rank, r.n LIMIT 1
    ) AS next
), page AS MATERIALIZED (SELECT * FROM pair LIMIT 1000), lone AS MATERIALIZED (
    SELECT page.* FROM page JOIN open ON open.id = page.queue AND NOT open.is_gated
    WHERE page.class = ANY(%(classes)b::int[]) AND (SELECT count(*) FROM page) = 1
), head AS MATERIALIZED (
    SELECT h.*, lone.queue, lone.class FROM lone, LATERAL (
        SELECT part, ctid AS place, rank, n FROM ready
        WHERE queue = lone.queue AND stream = 0 AND class = lone.class AND (rank, n) >= (lone.rank, lone.n)
        ORDER BY rank, n LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    ) AS h
)
SELECT (SELECT id FROM me), (SELECT facts FROM me),
       EXISTS (SELECT FROM run WHERE session = (SELECT id FROM me) AND request = %(request)s),
       (SELECT due_at FROM deferred ORDER BY due_at LIMIT 1), EXISTS (SELECT FROM intent),
       EXISTS (SELECT FROM queue WHERE is_gated),
       ARRAY(SELECT id FROM open ORDER BY id), ARRAY(SELECT is_gated FROM open ORDER BY id),
       ARRAY(SELECT queue FROM page), ARRAY(SELECT class FROM page), ARRAY(SELECT rank FROM page),
       ARRAY(SELECT n FROM page),
       NULL::bigint, NULL::bigint, NULL, NULL::float8, NULL::float8, NULL::int, NULL::int, NULL::int, NULL::int,
       NULL::bytea, NULL::bytea, NULL::bytea, NULL::tid, NULL::smallint, NULL::smallint, NULL, NULL::int, NULL::int
UNION ALL
(SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
        h.rank, h.n, j.id, j.created_at, j.expires_at, j.errors, j.crashes, j.lost, j.fence, j.options,
        j.body, CASE WHEN j.fence > 0 THEN (SELECT checkpoint FROM live WHERE live.n = h.n) END,
        h.place, h.part, j.traits,
        CASE WHEN j.errors + j.crashes + j.lost > 0 THEN j.reason ELSE '' END, h.queue, h.class
 FROM head h JOIN job j ON j.n = h.n ORDER BY h.rank, h.n)

-- :name pairs
WITH RECURSIVE pair (queue, class, rank, n) AS (
    SELECT first.* FROM unnest(%(queues)b::int[]) AS q (id), LATERAL (
        SELECT queue, class, rank, n FROM ready WHERE queue = q.id AND stream = 0
        ORDER BY queue, stream, class, rank, n LIMIT 1
    ) AS first
    UNION ALL
    SELECT next.* FROM pair, LATERAL (
        SELECT r.queue, r.class, r.rank, r.n FROM ready r
        WHERE r.queue = pair.queue AND r.stream = 0 AND (r.class, r.rank, r.n)
              > (pair.class, 9223372036854775807, 9223372036854775807)
        ORDER BY r.queue, r.stream, r.class, r.rank, r.n LIMIT 1
    ) AS next
)
SELECT queue, class, rank, n FROM pair LIMIT 1000

-- :name heads
WITH head AS MATERIALIZED (
    SELECT part, ctid AS place, rank, n FROM ready
    WHERE queue = %(queue)s AND stream = 0 AND class = %(class)s
      AND (rank, n) > (%(rank)s::bigint, %(n)s::bigint)
    ORDER BY rank, n LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)
SELECT h.rank, h.n, j.id, j.created_at, j.expires_at, j.errors, j.crashes, j.lost, j.fence, j.options,
       j.body, CASE WHEN j.fence > 0 THEN (SELECT checkpoint FROM live WHERE live.n = h.n) END,
       h.place, h.part, j.traits,
       CASE WHEN j.errors + j.crashes + j.lost > 0 THEN j.reason ELSE '' END
FROM head h JOIN job j ON j.n = h.n ORDER BY h.rank, h.n

-- :name start
WITH taken_0 AS (
    DELETE FROM ready_0 WHERE ctid = ANY(%(places_0)b::tid[])
), taken_1 AS (
    DELETE FROM ready_1 WHERE ctid = ANY(%(places_1)b::tid[])
), taken_2 AS (
    DELETE FROM ready_2 WHERE ctid = ANY(%(places_2)b::tid[])
), taken_3 AS (
    DELETE FROM ready_3 WHERE ctid = ANY(%(places_3)b::tid[])
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
       j.body, (SELECT checkpoint FROM live WHERE live.n = r.n), '', 0, r.traits | j.traits,
       CASE WHEN j.errors + j.crashes + j.lost > 0 THEN j.reason ELSE '' END, j.class, j.queue
FROM run r JOIN job j ON j.n = r.n
WHERE r.session = %(session)s AND r.request = %(request)s ORDER BY r.n

-- The same, with what gated jobs take, who stands first then in their streams, and where the clocks of lanes are.
-- :name start_gated
WITH taken_0 AS (
    DELETE FROM ready_0 WHERE ctid = ANY(%(places_0)b::tid[])
), taken_1 AS (
    DELETE FROM ready_1 WHERE ctid = ANY(%(places_1)b::tid[])
), taken_2 AS (
    DELETE FROM ready_2 WHERE ctid = ANY(%(places_2)b::tid[])
), taken_3 AS (
    DELETE FROM ready_3 WHERE ctid = ANY(%(places_3)b::tid[])
), started AS (
    DELETE FROM expiring e USING unnest(%(expire_ats)b::float8[], %(expire_ns)b::bigint[]) AS i (at, n)
    WHERE e.expires_at = i.at AND e.n = i.n
), held AS (
    INSERT INTO holder (part, valve, at, n)
    SELECT (SELECT last_value FROM holder_turn), i.valve, %(now)s, i.n
    FROM unnest(%(valves)b::int[], %(holders)b::bigint[]) AS i (valve, n)
), headed AS (
    UPDATE stream SET rank = i.rank, n = i.n, flow = i.flow, is_live = true,
                      park = CASE WHEN stream.n = i.n THEN stream.park ELSE 0 END
    FROM unnest(%(streams)b::int[], %(head_ranks)b::bigint[], %(head_ns)b::bigint[], %(head_flows)b::bytea[])
         AS i (id, rank, n, flow)
    WHERE stream.id = i.id AND stream.n IS DISTINCT FROM i.n
), moved AS (
    UPDATE lane SET clock = i.clock, mean_s = i.mean_s
    FROM unnest(%(ids)b::int[], %(clocks)b::float8[], %(means)b::float8[]) AS i (id, clock, mean_s)
    WHERE lane.id = i.id
), shared AS (
    UPDATE share SET clock = %(clock)s WHERE queue = %(queue)s AND clock <> %(clock)s
)
INSERT INTO run (part, n, session, request, fence, claimed_at, deadline_at, traits, charged)
SELECT (SELECT last_value FROM run_turn), i.n, %(session)s, %(request)s, i.fence, %(now)s, %(deadline_at)s,
       i.traits, CASE WHEN i.charged >= 0 THEN i.charged END
FROM unnest(%(ns)b::bigint[], %(fences)b::int[], %(traits)b::smallint[], %(charged)b::float8[])
     AS i (n, fence, traits, charged)

-- And whether intents are left.
-- :name next_due
SELECT (SELECT due_at FROM deferred ORDER BY due_at LIMIT 1), EXISTS (SELECT FROM intent)

-- Where there are gated queues, also: when the next valve opens at which somebody is parked, whether one may be
-- open, gates that may be, and whether jobs came to streams since somebody looked.
-- :name next_due_gated
SELECT (SELECT due_at FROM deferred ORDER BY due_at LIMIT 1), EXISTS (SELECT FROM intent),
       (SELECT min(open_at) FROM park WHERE open_at > %(now)s AND open_at < 'infinity'),
       EXISTS (SELECT FROM park WHERE open_at <= %(now)s),
       ARRAY(SELECT id FROM gate WHERE park = 0 AND keys <> '{}'::int[] LIMIT 64),
       EXISTS (SELECT FROM came)
