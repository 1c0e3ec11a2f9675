-- Labels, publication and retention of workflows. Indexes: label_workflow, held, workflow_check.
-- Locks: the workflow's row, before its jobs; those who add jobs share it.

-- :name add
WITH clock AS MATERIALIZED (
    SELECT coalesce(%(now)s::float8, extract(epoch FROM clock_timestamp())::float8) AS now
), input AS MATERIALIZED (
    SELECT nextval('job_n') AS n, i.*, clock.now,
           coalesce(i.given_due_at, clock.now + i.delay_s) AS due,
           coalesce(clock.now + i.expires_s, i.given_expires_at) AS expires_at
    FROM clock, unnest(
        %(id)b::text[], %(class)b::int[], %(queue)b::int[], %(lane)b::text[], %(priority)b::int[],
        %(delay_s)b::float8[], %(due_at)b::float8[], %(expires_s)b::float8[], %(expires_at)b::float8[],
        %(ageing_s)b::float8[], %(keep_s)b::float8[], %(keep_failed_s)b::float8[], %(remember_s)b::float8[],
        %(max_receives)b::int[], %(unique_key)b::text[], %(tags)b::text[], %(options)b::bytea[],
        %(body)b::bytea[], %(traits)b::smallint[], %(waits)b::bool[], %(is_held)b::bool[],
        %(workflow)b::text[], %(grp)b::text[], %(stream)b::int[], %(flow)b::bytea[]
    ) AS i (id, class, queue, lane, priority, delay_s, given_due_at, expires_s, given_expires_at, ageing_s,
            keep_s, keep_failed_s, remember_s, max_receives, unique_key, tags, options, body, traits, waits,
            is_held, workflow, grp, stream, flow)
), fresh AS (
    INSERT INTO job (n, id, class, queue, lane, priority, rank, created_at, due_at, expires_at, ageing_s,
                     keep_s, keep_failed_s, remember_s, max_receives, unique_key, tags, options, body, traits,
                     stream, flow)
    SELECT n, id, class, queue, lane, priority,
           trunc(greatest(due, now) * 1e6::float8)::bigint
           - CASE WHEN ageing_s > 0 THEN trunc(priority::float8 * ageing_s * 1e6::float8)::bigint
                  ELSE -((9 - priority)::bigint << 52) END,
           now, CASE WHEN due > now AND NOT waits THEN due END, CASE WHEN NOT waits THEN expires_at END,
           ageing_s, keep_s, keep_failed_s, remember_s, max_receives, unique_key, tags, options, body, traits,
           stream, flow
    FROM input WHERE NOT EXISTS (SELECT FROM tomb WHERE tomb.id = input.id)
    ORDER BY id
    ON CONFLICT (id) DO NOTHING
    RETURNING n, id, queue, stream, class, rank, due_at, expires_at, tags, traits
), stored AS MATERIALIZED (
    SELECT f.*, i.waits, i.is_held, i.workflow, i.grp, i.delay_s, i.given_due_at, i.expires_s,
           i.given_expires_at, i.now
    FROM fresh f JOIN input i ON i.n = f.n
), at_once AS (
    INSERT INTO ready (part, queue, stream, class, rank, n)
    SELECT (SELECT last_value FROM ready_turn), queue, coalesce(stream, 0), class, rank, n FROM stored
    WHERE due_at IS NULL AND NOT waits
), stood AS (
    INSERT INTO came (part, stream)
    SELECT DISTINCT (SELECT last_value FROM came_turn), stream FROM stored
    WHERE due_at IS NULL AND NOT waits AND stream IS NOT NULL
), later AS (
    INSERT INTO deferred (due_at, n) SELECT due_at, n FROM stored WHERE due_at IS NOT NULL
), bounded AS (
    INSERT INTO expiring (expires_at, n) SELECT expires_at, n FROM stored WHERE expires_at IS NOT NULL
), tagged AS (
    INSERT INTO tag (tag, n)
    SELECT DISTINCT t.tag, n FROM stored, json_array_elements_text(tags::json) AS t (tag)
    WHERE tags IS NOT NULL
), labelled AS (
    INSERT INTO label (n, workflow, grp) SELECT n, workflow, grp FROM stored WHERE workflow <> '' OR grp <> ''
), waiting AS (
    INSERT INTO node (n, waits, held, delay_s, wanted_at, expires_s, expires_at)
    SELECT n, waits, is_held, delay_s, given_due_at, expires_s, given_expires_at FROM stored
    WHERE traits & 2 <> 0
), kept AS (
    INSERT INTO held (workflow, n, created_at) SELECT workflow, n, now FROM stored WHERE is_held
), counted AS (
    INSERT INTO delta (part, queue, scheduled, ready, waiting, minute, word, class, name, bucket, count, sum_us)
    SELECT (SELECT last_value FROM delta_turn), queue, count(due_at),
           count(*) - count(due_at) - count(*) FILTER (WHERE waits), count(*) FILTER (WHERE waits),
           floor(now / 60)::int, 0, class, '', -1, count(*), 0
    FROM stored GROUP BY queue, class, now
)
SELECT id, n FROM fresh

-- :name decided
SELECT n FROM node WHERE n = ANY(%(ns)b::bigint[]) AND (broken > 0 OR pending = 0 AND NOT held)

-- :name count_edges
UPDATE node SET pending = node.pending + i.pending, broken = node.broken + i.broken,
                joins = node.joins + i.joins
FROM unnest(%(ns)b::bigint[], %(pending)b::int[], %(broken)b::int[], %(joins)b::int[])
     AS i (n, pending, broken, joins)
WHERE node.n = i.n

-- :name found
INSERT INTO workflow (name, check_at)
SELECT name, coalesce(%(now)s::float8, extract(epoch FROM clock_timestamp())::float8) + %(look_s)s
FROM unnest(%(names)b::text[]) AS i (name) ORDER BY name
ON CONFLICT (name) DO NOTHING

-- :name enter
SELECT name, published FROM workflow WHERE name = ANY(%(names)b::text[]) ORDER BY name FOR SHARE

-- Waits for those who add jobs just now.
-- :name lock
SELECT published FROM workflow WHERE name = %(name)s FOR UPDATE

-- :name publish
UPDATE workflow SET published = true WHERE name = %(name)s

-- :name held
SELECT n FROM held WHERE workflow = %(workflow)s AND n > %(after)s ORDER BY n LIMIT %(limit)s

-- :name unhold
DELETE FROM held WHERE workflow = %(workflow)s AND n = ANY(%(ns)b::bigint[])

-- :name due
SELECT name, published, after, is_over FROM workflow WHERE check_at <= %(now)s
ORDER BY check_at LIMIT 1 FOR UPDATE SKIP LOCKED

-- :name members
SELECT l.n, d.n IS NOT NULL,
       d.ended_at + CASE WHEN d.state = 4 THEN j.keep_failed_s ELSE j.keep_s END
FROM label l JOIN job j ON j.n = l.n LEFT JOIN done d ON d.n = l.n
WHERE l.workflow = %(name)s AND l.n > %(after)s ORDER BY l.n LIMIT %(limit)s

-- :name abandoned
SELECT 1 FROM held WHERE workflow = %(name)s AND created_at <= %(before)s LIMIT 1

-- :name move_on
UPDATE workflow SET check_at = %(check_at)s, after = %(after)s, is_over = %(is_over)s WHERE name = %(name)s

-- :name remove
DELETE FROM workflow WHERE name = %(name)s

-- :name extras
SELECT i.n, coalesce(l.workflow, ''), coalesce(l.grp, ''), coalesce(n.joins, 0),
       CASE WHEN i.has_steps THEN (SELECT count(*) FROM step s WHERE s.n = i.n) ELSE 0 END, e.id,
       e.traits, coalesce(p.id, x.id, ''), p.n IS NULL, d.state, r.n IS NOT NULL,
       coalesce(g.waits, false), w.n IS NOT NULL, d.result, coalesce(g.cause, ''),
       CASE WHEN o.n IS NOT NULL THEN
           CASE WHEN od.n IS NOT NULL THEN od.error ELSE (SELECT error FROM live WHERE live.n = o.n) END
       WHEN d.n IS NOT NULL THEN d.error ELSE (SELECT error FROM live WHERE live.n = p.n) END
FROM unnest(%(ns)b::bigint[], %(has_steps)b::bool[]) AS i (n, has_steps)
LEFT JOIN label l ON l.n = i.n LEFT JOIN node n ON n.n = i.n
LEFT JOIN edge e ON e.child = i.n AND n.joins <= %(most)s
LEFT JOIN job p ON p.n = e.parent LEFT JOIN gone x ON x.n = e.parent
LEFT JOIN done d ON d.n = e.parent LEFT JOIN run r ON r.n = e.parent LEFT JOIN node g ON g.n = e.parent
LEFT JOIN deferred w ON w.due_at = p.due_at AND w.n = p.n
LEFT JOIN job o ON o.id = g.cause LEFT JOIN done od ON od.n = o.n
ORDER BY i.n, e.id

-- :name parents
SELECT e.child, e.traits, coalesce(p.id, x.id, ''), p.n IS NULL, d.state, r.n IS NOT NULL,
       coalesce(g.waits, false), w.n IS NOT NULL, d.result, coalesce(g.cause, ''),
       CASE WHEN o.n IS NOT NULL THEN
           CASE WHEN od.n IS NOT NULL THEN od.error ELSE (SELECT error FROM live WHERE live.n = o.n) END
       WHEN d.n IS NOT NULL THEN d.error ELSE (SELECT error FROM live WHERE live.n = p.n) END
FROM edge e LEFT JOIN job p ON p.n = e.parent LEFT JOIN gone x ON x.n = e.parent
LEFT JOIN done d ON d.n = e.parent LEFT JOIN run r ON r.n = e.parent LEFT JOIN node g ON g.n = e.parent
LEFT JOIN deferred w ON w.due_at = p.due_at AND w.n = p.n
LEFT JOIN job o ON o.id = g.cause LEFT JOIN done od ON od.n = o.n
WHERE e.child = ANY(%(ns)b::bigint[]) ORDER BY e.child, e.id
OFFSET %(skip)s LIMIT %(limit)s
