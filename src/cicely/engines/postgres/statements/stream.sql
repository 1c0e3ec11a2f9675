-- Where gated jobs stand: valves, lanes, bands, gates, streams. Indexes: the UNIQUE ones, gate_band, gate_open,
-- stream_live, park_queue, ready (queue, stream, class, rank, n).
-- job_stream, gate (band, keys).
-- Locks: `lock` is the flow lock, one for all (advisory, until the commit). It is taken after all rows that a
-- call waits for; only then may clocks, heads, parks, gauges and holders be changed. The add_* only add names,
-- in their order, in short transactions of their own, without it.

-- :name lock
SELECT pg_advisory_xact_lock(hashtext('cicely flow'), hashtext(current_schema()))

-- --- names ---------------------------------------------------------------------------------------
-- Who gives names shares a lock (advisory, until the commit); who forgets some has it alone.

-- :name share_names
SELECT pg_advisory_xact_lock_shared(hashtext('cicely names'), hashtext(current_schema()))

-- :name own_names
SELECT pg_try_advisory_xact_lock(hashtext('cicely names'), hashtext(current_schema()))

-- The next streams in the order of their numbers: the last of them, how many, and of which no job is left.
-- :name empty_streams
SELECT max(id), count(*), array_agg(id) FILTER (WHERE NOT is_live AND NOT EXISTS (
    SELECT FROM job WHERE job.stream = page.id
)) FROM (SELECT id, is_live FROM stream WHERE id > %(after)s ORDER BY id LIMIT %(limit)s) AS page

-- :name forget_streams
DELETE FROM stream WHERE id = ANY(%(ids)b::int[]) AND NOT is_live
    AND NOT EXISTS (SELECT FROM job WHERE job.stream = stream.id)
RETURNING gate, lane

-- :name forget_gates
WITH gone AS (
    DELETE FROM gate WHERE id = ANY(%(ids)b::int[]) AND NOT EXISTS (SELECT FROM stream WHERE stream.gate = gate.id)
    RETURNING id, band
)
DELETE FROM band WHERE id IN (SELECT band FROM gone)
    AND NOT EXISTS (SELECT FROM gate WHERE gate.band = band.id AND gate.id NOT IN (SELECT id FROM gone))

-- Lanes of queues that have very many; the others keep their clocks.
-- :name forget_lanes
DELETE FROM lane WHERE id = ANY(%(ids)b::int[]) AND name <> ''
    AND NOT EXISTS (SELECT FROM stream WHERE stream.lane = lane.id)
    AND (SELECT count(*) FROM (SELECT FROM lane AS other WHERE other.queue = lane.queue LIMIT %(most)s) AS some_lanes)
        >= %(most)s

-- :name add_valves
INSERT INTO valve (key) SELECT key FROM unnest(%(keys)b::text[]) AS i (key) ORDER BY key
ON CONFLICT (key) DO NOTHING

-- :name valves
SELECT key, id FROM valve WHERE key = ANY(%(keys)b::text[])

-- :name add_shares
INSERT INTO share (queue) SELECT queue FROM unnest(%(queues)b::int[]) AS i (queue) ORDER BY queue
ON CONFLICT (queue) DO NOTHING

-- Queues that had jobs of no lane only, until now.
-- :name had_plain
SELECT i.queue FROM unnest(%(queues)b::int[]) AS i (queue)
WHERE NOT EXISTS (SELECT FROM lane WHERE lane.queue = i.queue)
  AND (EXISTS (SELECT FROM counter WHERE counter.queue = i.queue)
       OR EXISTS (SELECT FROM delta WHERE delta.queue = i.queue))

-- :name add_lanes
INSERT INTO lane (queue, name, clock, weight)
SELECT i.queue, i.name, s.clock, i.weight
FROM unnest(%(queues)b::int[], %(names)b::text[], %(weights)b::float8[]) AS i (queue, name, weight)
JOIN share s ON s.queue = i.queue ORDER BY i.queue, i.name
ON CONFLICT (queue, name) DO NOTHING

-- :name lanes
SELECT l.queue, l.name, l.id FROM unnest(%(queues)b::int[], %(names)b::text[]) AS i (queue, name)
JOIN lane l ON l.queue = i.queue AND l.name = i.name

-- :name weights
SELECT name, value FROM setting WHERE kind = 'lane' AND name = ANY(%(names)b::text[])

-- :name open_queues
UPDATE queue SET is_gated = true,
                 knows_plain = EXISTS (SELECT FROM lane WHERE lane.queue = queue.id AND lane.name = '')
WHERE id = ANY(%(queues)b::int[])
  AND (NOT is_gated OR knows_plain <> EXISTS (SELECT FROM lane WHERE lane.queue = queue.id AND lane.name = ''))

-- :name add_bands
INSERT INTO band (queue, class, wants)
SELECT queue, class, wants FROM unnest(%(queues)b::int[], %(classes)b::int[], %(wants)b::bytea[])
     AS i (queue, class, wants) ORDER BY queue, class, wants
ON CONFLICT (queue, class, wants) DO NOTHING

-- :name bands
SELECT b.queue, b.class, b.wants, b.id
FROM unnest(%(queues)b::int[], %(classes)b::int[], %(wants)b::bytea[]) AS i (queue, class, wants)
JOIN band b ON b.queue = i.queue AND b.class = i.class AND b.wants = i.wants

-- :name add_gate
INSERT INTO gate (band, keys) VALUES (%s, %s::int[]) ON CONFLICT (band, keys) DO NOTHING

-- :name gate
SELECT id FROM gate WHERE band = %s AND keys = %s::int[]

-- :name add_streams
INSERT INTO stream (gate, lane)
SELECT gate, lane FROM unnest(%(gates)b::int[], %(lanes)b::int[]) AS i (gate, lane) ORDER BY gate, lane
ON CONFLICT (gate, lane) DO NOTHING

-- :name streams
SELECT s.gate, s.lane, s.id FROM unnest(%(gates)b::int[], %(lanes)b::int[]) AS i (gate, lane)
JOIN stream s ON s.gate = i.gate AND s.lane = i.lane

-- Those that were forgotten.
-- :name missing
SELECT DISTINCT i.id FROM unnest(%(streams)b::int[]) AS i (id)
WHERE i.id IS NOT NULL AND NOT EXISTS (SELECT FROM stream WHERE stream.id = i.id)

-- :name without_lane
SELECT id FROM queue WHERE id = ANY(%(queues)b::int[]) AND is_gated AND NOT knows_plain

-- --- heads ---------------------------------------------------------------------------------------

-- :name add_came
INSERT INTO came (part, stream) SELECT (SELECT last_value FROM came_turn), i.id FROM unnest(%(streams)b::int[]) AS i (id)

-- And whether all that came stand behind the one that is the first already.
-- :name came
WITH page AS MATERIALIZED (
    SELECT part, ctid AS place, stream, rank, n FROM came LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), gone_0 AS (
    DELETE FROM came_0 WHERE ctid = ANY(ARRAY(SELECT place FROM page WHERE part = 0))
), gone_1 AS (
    DELETE FROM came_1 WHERE ctid = ANY(ARRAY(SELECT place FROM page WHERE part = 1))
), gone_2 AS (
    DELETE FROM came_2 WHERE ctid = ANY(ARRAY(SELECT place FROM page WHERE part = 2))
), gone_3 AS (
    DELETE FROM came_3 WHERE ctid = ANY(ARRAY(SELECT place FROM page WHERE part = 3))
)
SELECT p.stream, count(*), bool_and(coalesce(s.is_live AND (s.rank, s.n) <= (p.rank, p.n), false))
FROM page p LEFT JOIN stream s ON s.id = p.stream GROUP BY p.stream

-- A head that changed may pass where the one before did not. And which of the streams were forgotten.
-- :name find_heads
WITH found AS (
    UPDATE stream s SET rank = h.rank, n = h.n, flow = h.flow, is_live = h.n IS NOT NULL,
                        park = CASE WHEN s.n IS NOT DISTINCT FROM h.n THEN s.park ELSE 0 END
    FROM stream o JOIN gate g ON g.id = o.gate JOIN band b ON b.id = g.band
    LEFT JOIN LATERAL (
        SELECT r.rank, r.n, j.flow FROM ready r JOIN job j ON j.n = r.n
        WHERE r.queue = b.queue AND r.stream = o.id AND r.class = b.class ORDER BY r.rank, r.n LIMIT 1
    ) h ON true
    WHERE o.id = ANY(%(streams)b::int[]) AND s.id = o.id AND s.n IS DISTINCT FROM h.n
    RETURNING g.id AS gate, g.park
)
SELECT gate, park, 0 FROM found
UNION ALL
SELECT 0, 0, i.id FROM unnest(%(streams)b::int[]) AS i (id) WHERE NOT EXISTS (SELECT FROM stream WHERE stream.id = i.id)

-- Those that are known already.
-- :name move_heads
UPDATE stream SET rank = i.rank, n = i.n, flow = i.flow, is_live = true,
                  park = CASE WHEN stream.n = i.n THEN stream.park ELSE 0 END
FROM unnest(%(streams)b::int[], %(head_ranks)b::bigint[], %(head_ns)b::bigint[], %(head_flows)b::bytea[])
     AS i (id, rank, n, flow)
WHERE stream.id = i.id AND stream.n IS DISTINCT FROM i.n

-- Who stands in a stream that was forgotten, and where they go.
-- :name of_stream
SELECT queue, lane, class, flow FROM job WHERE stream = %(stream)s LIMIT 1

-- :name move_jobs
UPDATE job SET stream = %(to)s WHERE stream = %(stream)s RETURNING n, traits

-- :name move_ready
UPDATE ready SET stream = %(to)s WHERE queue = %(queue)s AND stream = %(stream)s AND class = %(class)s

-- :name wake_gates
UPDATE gate SET park = 0 WHERE id = ANY(%(gates)b::int[]) AND park = -1

-- --- what a claim looks at -----------------------------------------------------------------------

-- Of a queue: its clock, whether lanes share it, its parks that may be open, its bands.
-- :name outlook
SELECT s.clock, (SELECT count(*) FROM (SELECT FROM lane WHERE lane.queue = s.queue LIMIT 2) AS two) > 1,
       ARRAY(SELECT valve FROM park WHERE queue = s.queue AND open_at <= %(now)s ORDER BY open_at LIMIT 256),
       ARRAY(SELECT id FROM band WHERE queue = s.queue ORDER BY id),
       ARRAY(SELECT class FROM band WHERE queue = s.queue ORDER BY id),
       ARRAY(SELECT wants FROM band WHERE queue = s.queue ORDER BY id)
FROM share s WHERE s.queue = %(queue)s

-- :name shared
SELECT s.id, s.gate, s.lane, l.clock, s.rank, s.n, s.flow, g.band, g.park, s.park, l.mean_s, l.weight
FROM gate g JOIN stream s ON s.gate = g.id AND s.is_live JOIN lane l ON l.id = s.lane
WHERE g.band = ANY(%(bands)b::int[]) AND g.park = ANY(%(open)b::int[]) AND s.park = ANY(%(open)b::int[])
  AND g.id <> ALL(%(out)b::int[])
  AND (l.clock, s.rank, s.n) > (%(clock)s::float8, %(rank)s::bigint, %(n)s::bigint)
ORDER BY l.clock, s.rank, s.n LIMIT %(limit)s

-- :name unshared
SELECT s.id, s.gate, s.lane, 0.0::float8, s.rank, s.n, s.flow, g.band, g.park, s.park, 1.0::float8, 1.0::float8
FROM gate g JOIN stream s ON s.gate = g.id AND s.is_live
WHERE g.band = ANY(%(bands)b::int[]) AND g.park = ANY(%(open)b::int[]) AND s.park = ANY(%(open)b::int[])
  AND g.id <> ALL(%(out)b::int[])
  AND (s.rank, s.n) > (%(rank)s::bigint, %(n)s::bigint)
ORDER BY s.rank, s.n LIMIT %(limit)s

-- Rows of `heads` (see claim.sql), with the job's flow and stream behind them.
-- :name heads
WITH head AS MATERIALIZED (
    SELECT r.* FROM unnest(%(streams)b::int[], %(classes)b::int[], %(ranks)b::bigint[], %(ns)b::bigint[])
         AS i (stream, class, rank, n), LATERAL (
        SELECT part, ctid AS place, rank, n, stream FROM ready
        WHERE queue = %(queue)s AND stream = i.stream AND class = i.class AND (rank, n) > (i.rank, i.n)
        ORDER BY rank, n LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    ) AS r
)
SELECT h.rank, h.n, j.id, j.created_at, j.expires_at, j.errors, j.crashes, j.lost, j.fence, j.options,
       j.body, CASE WHEN j.fence > 0 THEN (SELECT checkpoint FROM live WHERE live.n = h.n) END,
       h.place, h.part, j.traits,
       CASE WHEN j.errors + j.crashes + j.lost > 0 THEN j.reason ELSE '' END, j.flow, h.stream
FROM head h JOIN job j ON j.n = h.n ORDER BY h.rank, h.n

-- :name lanes_by_id
SELECT id, clock, mean_s, weight FROM lane WHERE id = ANY(%(ids)b::int[])

-- :name lane
SELECT id, clock, mean_s, weight FROM lane WHERE queue = %(queue)s AND name = %(name)s

-- :name move_lanes
UPDATE lane SET clock = i.clock, mean_s = i.mean_s
FROM unnest(%(ids)b::int[], %(clocks)b::float8[], %(means)b::float8[]) AS i (id, clock, mean_s)
WHERE lane.id = i.id

-- :name move_share
UPDATE share SET clock = %s WHERE queue = %s

-- :name move_both
WITH moved AS (
    UPDATE lane SET clock = i.clock, mean_s = i.mean_s
    FROM unnest(%(ids)b::int[], %(clocks)b::float8[], %(means)b::float8[]) AS i (id, clock, mean_s)
    WHERE lane.id = i.id
)
UPDATE share SET clock = %(clock)s WHERE queue = %(queue)s

-- :name weigh
UPDATE lane SET weight = %s FROM queue WHERE queue.name = %s AND lane.queue = queue.id AND lane.name = %s

-- Who waits at a limit, if it could be claimed but for that.
-- :name waiter
SELECT j.stream, j.flow FROM job j JOIN queue q ON q.id = j.queue AND NOT q.paused JOIN ready r
  ON r.queue = j.queue AND r.stream = coalesce(j.stream, 0) AND r.class = j.class AND r.rank = j.rank AND r.n = j.n
WHERE j.n = %(n)s AND coalesce(j.expires_at > %(now)s::float8, true)

-- --- parks ---------------------------------------------------------------------------------------

-- :name park_gates
UPDATE gate SET park = i.park FROM unnest(%(ids)b::int[], %(parks)b::int[]) AS i (id, park)
WHERE gate.id = i.id AND gate.park <> i.park

-- :name park_streams
UPDATE stream SET park = i.park FROM unnest(%(ids)b::int[], %(parks)b::int[]) AS i (id, park)
WHERE stream.id = i.id AND stream.park <> i.park

-- :name park
INSERT INTO park (valve, queue, open_at) VALUES (%s, %s, %s)
ON CONFLICT (valve, queue) DO UPDATE SET open_at = excluded.open_at WHERE park.open_at > excluded.open_at

-- :name reopen
UPDATE park SET open_at = %s WHERE valve = %s AND queue = %s

-- :name count_parked
SELECT count(*) FROM band b JOIN gate g ON g.band = b.id JOIN stream s ON s.gate = g.id AND s.is_live
WHERE b.queue = %(queue)s AND (g.park = %(valve)s OR s.park = %(valve)s)

-- :name wake
UPDATE park SET open_at = 0 WHERE valve = ANY(%(valves)b::int[]) AND open_at > 0

-- Those that nobody looked at again after they may have moved, and gates without jobs.

-- :name stale_parks
SELECT valve, queue FROM park WHERE open_at <= %(before)s ORDER BY open_at LIMIT %(limit)s

-- :name unpark_gates
UPDATE gate SET park = 0 FROM band b
WHERE gate.park = %(valve)s AND b.id = gate.band AND b.queue = %(queue)s

-- :name unpark_streams
UPDATE stream SET park = 0 FROM gate g, band b
WHERE stream.park = %(valve)s AND g.id = stream.gate AND b.id = g.band AND b.queue = %(queue)s

-- :name forget_park
DELETE FROM park WHERE valve = %(valve)s AND queue = %(queue)s

-- :name any
SELECT 1 FROM share LIMIT 1

-- :name idle_gates
UPDATE gate SET park = -1 WHERE id IN (
    SELECT id FROM gate WHERE park = 0 AND NOT EXISTS (
        SELECT FROM stream WHERE stream.gate = gate.id AND (is_live OR EXISTS (
            SELECT FROM came WHERE came.stream = stream.id)))
    LIMIT %(limit)s
)

-- --- when valves open ----------------------------------------------------------------------------

-- Streams with keys that may be open; a few of each gate.
-- :name keyed
(SELECT s.id, g.id, b.queue, s.flow FROM gate g JOIN band b ON b.id = g.band CROSS JOIN LATERAL (
    SELECT id, flow FROM stream WHERE gate = g.id AND is_live LIMIT 8
 ) AS s WHERE g.park = 0 AND g.keys <> '{}'::int[] AND g.id <> ALL(%(seen)b::int[]) LIMIT %(limit)s)
UNION ALL
(SELECT s.id, g.id, b.queue, s.flow FROM park p JOIN band b ON b.queue = p.queue JOIN gate g ON g.band = b.id
 CROSS JOIN LATERAL (
    SELECT id, flow FROM stream WHERE gate = g.id AND is_live AND (g.park = p.valve OR park = p.valve) LIMIT 8
 ) AS s WHERE p.open_at <= %(now)s AND g.id <> ALL(%(seen)b::int[]) LIMIT %(limit)s)

-- Streams to which jobs have come since anybody looked.
-- :name keyed_new
SELECT s.id, s.gate, b.queue, h.flow
FROM (SELECT DISTINCT stream FROM (SELECT stream FROM came LIMIT %(limit)s) AS some_came) AS i (id)
JOIN stream s ON s.id = i.id JOIN gate g ON g.id = s.gate AND g.keys <> '{}'::int[] JOIN band b ON b.id = g.band
CROSS JOIN LATERAL (
    SELECT r.n, j.flow FROM ready r JOIN job j ON j.n = r.n
    WHERE r.queue = b.queue AND r.stream = s.id AND r.class = b.class ORDER BY r.rank, r.n LIMIT 1
) h

-- Whether somebody could start one of them: streams of these queues that may pass, the best few of each band.
-- :name startable
SELECT b.queue, b.class, b.wants, h.flow
FROM (
    (SELECT s.id FROM band b JOIN gate g ON g.band = b.id JOIN stream s ON s.gate = g.id AND s.is_live
     WHERE b.queue = ANY(%(queues)b::int[]) AND (g.park = 0 OR EXISTS (
        SELECT FROM park p WHERE p.valve = g.park AND p.queue = b.queue AND p.open_at <= %(soon)s))
       AND (s.park = 0 OR EXISTS (
        SELECT FROM park p WHERE p.valve = s.park AND p.queue = b.queue AND p.open_at <= %(soon)s))
     LIMIT %(limit)s)
    UNION
    (SELECT stream FROM came LIMIT %(limit)s)
) AS i (id) JOIN stream s ON s.id = i.id JOIN gate g ON g.id = s.gate JOIN band b ON b.id = g.band
CROSS JOIN LATERAL (
    SELECT j.flow FROM ready r JOIN job j ON j.n = r.n
    WHERE r.queue = b.queue AND r.stream = s.id AND r.class = b.class ORDER BY r.rank, r.n LIMIT 1
) h WHERE b.queue = ANY(%(queues)b::int[])
UNION ALL
(SELECT b.queue, b.class, b.wants, j.flow FROM deferred d JOIN job j ON j.n = d.n AND j.stream IS NOT NULL
 JOIN stream s ON s.id = j.stream JOIN gate g ON g.id = s.gate JOIN band b ON b.id = g.band
 WHERE d.due_at <= %(soon)s AND b.queue = ANY(%(queues)b::int[]) ORDER BY d.due_at LIMIT 16)
