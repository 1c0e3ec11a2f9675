-- Storing new jobs. Indexes: job.id, tomb.id, uniq.key. Locks: none on rows that exist; whoever stores
-- the same id or key at the same time waits for the first to commit, in the order of ids and keys.
-- Inserts only, so that it may run inside a caller's transaction.

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
        %(body)b::bytea[]
    ) AS i (id, class, queue, lane, priority, delay_s, given_due_at, expires_s, given_expires_at, ageing_s,
            keep_s, keep_failed_s, remember_s, max_receives, unique_key, tags, options, body)
), fresh AS (
    INSERT INTO job (n, id, class, queue, lane, priority, rank, created_at, due_at, expires_at, ageing_s,
                     keep_s, keep_failed_s, remember_s, max_receives, unique_key, tags, options, body)
    SELECT n, id, class, queue, lane, priority,
           trunc(greatest(due, now) * 1e6::float8)::bigint
           - CASE WHEN ageing_s > 0 THEN trunc(priority::float8 * ageing_s * 1e6::float8)::bigint
                  ELSE -((9 - priority)::bigint << 52) END,
           now, CASE WHEN due > now THEN due END, expires_at, ageing_s,
           keep_s, keep_failed_s, remember_s, max_receives, unique_key, tags, options, body
    FROM input WHERE NOT EXISTS (SELECT FROM tomb WHERE tomb.id = input.id)
      AND (%(is_asked)s OR NOT EXISTS (
          SELECT FROM queue WHERE queue.id = ANY(%(queue)b::int[])
            AND (queue.is_bounded OR queue.is_gated AND NOT queue.knows_plain)))
    ORDER BY id
    ON CONFLICT (id) DO NOTHING
    RETURNING n, id, queue, class, rank, due_at, expires_at, tags, created_at
), at_once AS (
    INSERT INTO ready (part, queue, class, rank, n)
    SELECT (SELECT last_value FROM ready_turn), queue, class, rank, n FROM fresh WHERE due_at IS NULL
), later AS (
    INSERT INTO deferred (due_at, n) SELECT due_at, n FROM fresh WHERE due_at IS NOT NULL
), bounded AS (
    INSERT INTO expiring (expires_at, n) SELECT expires_at, n FROM fresh WHERE expires_at IS NOT NULL
), tagged AS (
    INSERT INTO tag (tag, n)
    SELECT DISTINCT t.tag, n FROM fresh, json_array_elements_text(tags::json) AS t (tag)
    WHERE tags IS NOT NULL
), counted AS (
    INSERT INTO delta (part, queue, scheduled, ready, minute, word, class, name, bucket, count, sum_us)
    SELECT (SELECT last_value FROM delta_turn), queue, count(due_at), count(*) - count(due_at),
           floor(created_at / 60)::int, 0, class, '', -1, count(*), 0
    FROM fresh GROUP BY queue, class, created_at
)
SELECT id FROM fresh

-- Jobs of which some are gated; nothing is stored where a backlog may be bounded and nobody was asked. And which of
-- their streams were forgotten.
-- :name add_gated
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
        %(body)b::bytea[], %(traits)b::smallint[], %(stream)b::int[], %(flow)b::bytea[]
    ) AS i (id, class, queue, lane, priority, delay_s, given_due_at, expires_s, given_expires_at, ageing_s,
            keep_s, keep_failed_s, remember_s, max_receives, unique_key, tags, options, body, traits, stream, flow)
), fresh AS (
    INSERT INTO job (n, id, class, queue, lane, priority, rank, created_at, due_at, expires_at, ageing_s,
                     keep_s, keep_failed_s, remember_s, max_receives, unique_key, tags, options, body, traits, stream,
                     flow)
    SELECT n, id, class, queue, lane, priority,
           trunc(greatest(due, now) * 1e6::float8)::bigint
           - CASE WHEN ageing_s > 0 THEN trunc(priority::float8 * ageing_s * 1e6::float8)::bigint
                  ELSE -((9 - priority)::bigint << 52) END,
           now, CASE WHEN due > now THEN due END, expires_at, ageing_s,
           keep_s, keep_failed_s, remember_s, max_receives, unique_key, tags, options, body, traits, stream, flow
    FROM input WHERE NOT EXISTS (SELECT FROM tomb WHERE tomb.id = input.id)
      AND (%(is_asked)s OR NOT EXISTS (
          SELECT FROM queue WHERE queue.id = ANY(%(queue)b::int[])
            AND (queue.is_bounded OR queue.is_gated AND NOT queue.knows_plain AND %(has_plain)s))
          AND NOT EXISTS (SELECT FROM valve WHERE key = ANY(%(keys)b::text[]) AND backlog IS NOT NULL))
    ORDER BY id
    ON CONFLICT (id) DO NOTHING
    RETURNING n, id, queue, stream, class, rank, due_at, expires_at, tags, created_at
), at_once AS (
    INSERT INTO ready (part, queue, stream, class, rank, n)
    SELECT (SELECT last_value FROM ready_turn), queue, coalesce(stream, 0), class, rank, n FROM fresh
    WHERE due_at IS NULL
), stood AS (
    INSERT INTO came (part, stream, rank, n)
    SELECT DISTINCT ON (stream) (SELECT last_value FROM came_turn), stream, rank, n FROM fresh
    WHERE due_at IS NULL AND stream IS NOT NULL ORDER BY stream, rank, n
), later AS (
    INSERT INTO deferred (due_at, n) SELECT due_at, n FROM fresh WHERE due_at IS NOT NULL
), bounded AS (
    INSERT INTO expiring (expires_at, n) SELECT expires_at, n FROM fresh WHERE expires_at IS NOT NULL
), tagged AS (
    INSERT INTO tag (tag, n)
    SELECT DISTINCT t.tag, n FROM fresh, json_array_elements_text(tags::json) AS t (tag)
    WHERE tags IS NOT NULL
), counted AS (
    INSERT INTO delta (part, queue, scheduled, ready, minute, word, class, name, bucket, count, sum_us)
    SELECT (SELECT last_value FROM delta_turn), queue, count(due_at), count(*) - count(due_at),
           floor(created_at / 60)::int, 0, class, '', -1, count(*), 0
    FROM fresh GROUP BY queue, class, created_at
)
SELECT id, ARRAY(
    SELECT i.id FROM unnest(%(stream)b::int[]) AS i (id)
    WHERE i.id IS NOT NULL AND NOT EXISTS (SELECT FROM stream WHERE stream.id = i.id)
) FROM fresh

-- :name add_one
WITH fresh AS (
    INSERT INTO job (n, id, class, queue, lane, priority, rank, created_at, ageing_s, keep_s, keep_failed_s,
                     remember_s, max_receives, options, body)
    SELECT nextval('job_n'), %(id)s, %(class)s, %(queue)s, %(lane)s, %(priority)s,
           trunc(clock.now * 1e6::float8)::bigint
           - CASE WHEN %(ageing_s)s::float8 > 0
                  THEN trunc(%(priority)s::int * %(ageing_s)s::float8 * 1e6::float8)::bigint
                  ELSE -((9 - %(priority)s::int)::bigint << 52) END,
           clock.now, %(ageing_s)s, %(keep_s)s, %(keep_failed_s)s,
           %(remember_s)s, %(max_receives)s, %(options)s, %(body)s
    FROM (SELECT coalesce(%(now)s::float8, extract(epoch FROM clock_timestamp())::float8) AS now) AS clock
    WHERE NOT EXISTS (SELECT FROM tomb WHERE tomb.id = %(id)s)
      AND NOT EXISTS (
          SELECT FROM queue WHERE queue.id = %(queue)s
            AND (queue.is_bounded OR queue.is_gated AND NOT queue.knows_plain))
    ON CONFLICT (id) DO NOTHING
    RETURNING n, id, rank, created_at
), at_once AS (
    INSERT INTO ready (part, queue, class, rank, n)
    SELECT (SELECT last_value FROM ready_turn), %(queue)s, %(class)s, rank, n FROM fresh
), counted AS (
    INSERT INTO delta (part, queue, ready, minute, word, class, name, bucket, count, sum_us)
    SELECT (SELECT last_value FROM delta_turn), %(queue)s, 1, floor(created_at / 60)::int, 0, %(class)s, '', -1, 1, 0
    FROM fresh
)
SELECT id FROM fresh

-- Whether queues and keys take jobs only after a question: see Batch.
-- :name asks
SELECT 1 WHERE EXISTS (
    SELECT FROM queue WHERE id = ANY(%(queues)b::int[]) AND (is_bounded OR is_gated AND NOT knows_plain)
) OR EXISTS (SELECT FROM valve WHERE key = ANY(%(keys)b::text[]) AND backlog IS NOT NULL)

-- :name known
SELECT id FROM job WHERE id = ANY(%(ids)b::text[])
UNION ALL
SELECT id FROM tomb WHERE id = ANY(%(ids)b::text[])

-- :name hold
INSERT INTO uniq (key, id)
SELECT key, id FROM unnest(%(keys)b::text[], %(ids)b::text[]) AS i (key, id) ORDER BY key
ON CONFLICT (key) DO NOTHING
RETURNING key

-- :name holders
SELECT key, id FROM uniq WHERE key = ANY(%(keys)b::text[])
