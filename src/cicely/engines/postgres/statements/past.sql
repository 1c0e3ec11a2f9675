-- Rollups and events. Indexes: rollup's and history's primary keys.
-- What a call counts rides on delta, append-only, and is folded with it; readers add both up in one snapshot.
-- Locks: events get their numbers under a lock of meta's row, as the last thing before that commit: so their
-- order is that in which they become visible, whoever wrote them when.

-- :name add
INSERT INTO delta (part, queue, minute, word, class, name, bucket, count, sum_us)
SELECT (SELECT last_value FROM delta_turn), queue, minute, word, class, name, bucket, count, sum_us
FROM unnest(%(queues)b::int[], %(minutes)b::int[], %(words)b::smallint[], %(classes)b::int[], %(names)b::text[],
            %(buckets)b::smallint[], %(counts)b::int[], %(sums)b::bigint[])
     AS i (queue, minute, word, class, name, bucket, count, sum_us)

-- The common case: one cell and the counters of its queue, in one row.
-- :name add_one
INSERT INTO delta (part, queue, scheduled, ready, running, succeeded, failed, cancelled, expired, waiting,
                   minute, word, class, name, bucket, count, sum_us)
VALUES ((SELECT last_value FROM delta_turn), %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)

-- The same, and the counters of one queue.
-- :name add_both
WITH counted AS (
    INSERT INTO delta (part, queue, scheduled, ready, running, succeeded, failed, cancelled, expired, waiting)
    VALUES ((SELECT last_value FROM delta_turn), %(queue)s, %(c0)s, %(c1)s, %(c2)s, %(c3)s, %(c4)s, %(c5)s,
            %(c6)s, %(c7)s)
)
INSERT INTO delta (part, queue, minute, word, class, name, bucket, count, sum_us)
SELECT (SELECT last_value FROM delta_turn), queue, minute, word, class, name, bucket, count, sum_us
FROM unnest(%(queues)b::int[], %(minutes)b::int[], %(words)b::smallint[], %(classes)b::int[], %(names)b::text[],
            %(buckets)b::smallint[], %(counts)b::int[], %(sums)b::bigint[])
     AS i (queue, minute, word, class, name, bucket, count, sum_us)

-- Whole minutes: those of the first rows, as many as are asked for, and all else of the last of them.
-- :name rollups
WITH cell AS (
    SELECT minute, word, queue, class, name, bucket, count, sum_us FROM rollup
    WHERE minute >= %(since)s AND minute < %(until)s
    UNION ALL
    SELECT minute, word, queue, class, name, bucket, count, sum_us FROM delta
    WHERE word IS NOT NULL AND minute >= %(since)s AND minute < %(until)s
), bound AS (
    SELECT max(minute) AS minute, count(*) AS rows FROM (SELECT minute FROM cell ORDER BY minute LIMIT %(limit)s) AS first
)
SELECT c.minute, c.word, c.queue, c.class, c.name, c.bucket, sum(c.count)::bigint, sum(c.sum_us)::bigint,
       bound.rows
FROM cell c, bound WHERE c.minute <= bound.minute
GROUP BY c.minute, c.word, c.queue, c.class, c.name, c.bucket, bound.rows ORDER BY c.minute

-- :name forget_rollups
WITH gone AS (
    DELETE FROM rollup WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM rollup WHERE minute <= %(oldest)s ORDER BY minute LIMIT %(batch)s FOR UPDATE SKIP LOCKED
    )) RETURNING 1
)
SELECT count(*) FROM gone

-- --- events --------------------------------------------------------------------------------------

-- :name tell
INSERT INTO told (at, data) SELECT at, data FROM unnest(%(ats)b::float8[], %(datas)b::bytea[]) AS i (at, data)

-- :name labels
SELECT n, workflow FROM label WHERE n = ANY(%(ns)b::bigint[])

-- :name sessions
SELECT id, key FROM session WHERE id = ANY(%(ids)b::int[])

-- :name has_told
SELECT EXISTS (SELECT FROM told)

-- :name lock
SELECT version FROM meta FOR UPDATE

-- :name move
WITH moved AS (
    DELETE FROM told WHERE id IN (SELECT id FROM told ORDER BY id LIMIT %(limit)s) RETURNING id, at, data
)
INSERT INTO history (at, data) SELECT at, data FROM moved ORDER BY id

-- :name newest
SELECT coalesce(max(seq), 0) FROM history

-- :name history
SELECT seq, data FROM history WHERE seq > %(after)s ORDER BY seq LIMIT %(limit)s

-- :name forget_history
WITH gone AS (
    DELETE FROM history WHERE seq IN (
        SELECT seq FROM (SELECT seq, at FROM history ORDER BY seq LIMIT %(batch)s) AS oldest
        WHERE at <= %(before)s OR seq <= %(below)s
    ) RETURNING 1
)
SELECT count(*) FROM gone
