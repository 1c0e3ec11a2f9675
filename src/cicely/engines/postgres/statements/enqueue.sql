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
    ORDER BY id
    ON CONFLICT (id) DO NOTHING
    RETURNING n, id, queue, lane, class, rank, due_at, expires_at, tags
), at_once AS (
    INSERT INTO ready (part, queue, lane, class, rank, n)
    SELECT (SELECT last_value FROM ready_turn), queue, lane, class, rank, n FROM fresh WHERE due_at IS NULL
), later AS (
    INSERT INTO deferred (due_at, n) SELECT due_at, n FROM fresh WHERE due_at IS NOT NULL
), bounded AS (
    INSERT INTO expiring (expires_at, n) SELECT expires_at, n FROM fresh WHERE expires_at IS NOT NULL
), tagged AS (
    INSERT INTO tag (tag, n)
    SELECT DISTINCT t.tag, n FROM fresh, json_array_elements_text(tags::json) AS t (tag)
    WHERE tags IS NOT NULL
), counted AS (
    INSERT INTO delta (part, queue, scheduled, ready)
    SELECT (SELECT last_value FROM delta_turn), queue, count(due_at), count(*) - count(due_at)
    FROM fresh GROUP BY queue
)
SELECT id FROM fresh

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
    ON CONFLICT (id) DO NOTHING
    RETURNING n, id, rank
), at_once AS (
    INSERT INTO ready (part, queue, lane, class, rank, n)
    SELECT (SELECT last_value FROM ready_turn), %(queue)s, %(lane)s, %(class)s, rank, n FROM fresh
), counted AS (
    INSERT INTO delta (part, queue, ready) SELECT (SELECT last_value FROM delta_turn), %(queue)s, 1 FROM fresh
)
SELECT id FROM fresh

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
