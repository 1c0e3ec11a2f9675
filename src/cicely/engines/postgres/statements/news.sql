-- Whom a commit wakes. All of it is a hint: bell is unlogged and small, one row per waiting process.
-- Index: bell.id; the list is a scan of the few that wait. Locks: the bell that is rung, until its own commit.

-- :name waiting
SELECT id, channel, owner, sieve FROM bell LIMIT 512

-- :name arm
INSERT INTO bell (id, channel, backend, owner, sieve)
VALUES (%(id)s, %(channel)s, %(backend)s, %(owner)s, %(sieve)s)
ON CONFLICT (id) DO UPDATE SET channel = excluded.channel, backend = excluded.backend

-- :name disarm
DELETE FROM bell WHERE id = %(id)s

-- :name ring
WITH rung AS (DELETE FROM bell WHERE id = ANY(%(ids)b::text[]) RETURNING id, channel, backend)
SELECT id, pg_notify(channel, id) FROM rung WHERE EXISTS (SELECT FROM pg_stat_get_activity(backend))

-- The same of those who wait for jobs that ended: bits of their sieves.
-- :name ring_ended
WITH rung AS (
    DELETE FROM bell WHERE sieve IS NOT NULL
        AND EXISTS (SELECT FROM unnest(%(bits)b::int[]) AS i (bit) WHERE get_bit(sieve, i.bit) = 1)
    RETURNING id, channel, backend
)
SELECT id, pg_notify(channel, id) FROM rung WHERE EXISTS (SELECT FROM pg_stat_get_activity(backend))

-- And of the first that lives of these sessions.
-- :name ring_first
WITH first AS MATERIALIZED (
    SELECT id FROM bell
    WHERE owner = ANY(%(owners)b::text[]) AND sieve IS NULL AND EXISTS (SELECT FROM pg_stat_get_activity(backend))
    ORDER BY owner LIMIT 1 FOR UPDATE SKIP LOCKED
), rung AS (
    DELETE FROM bell WHERE id IN (SELECT id FROM first) RETURNING id, channel
)
SELECT id, pg_notify(channel, id) FROM rung

-- :name forget_dead
DELETE FROM bell WHERE NOT EXISTS (SELECT FROM pg_stat_get_activity(backend))

-- What stands ready, or is due soon, in queues that are not paused, where a session waits beside this one.
-- :name work
WITH RECURSIVE open AS MATERIALIZED (
    SELECT id, name, is_gated FROM queue
    WHERE NOT paused AND EXISTS (SELECT FROM bell WHERE sieve IS NULL AND owner <> %(claimer)s)
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
), page AS MATERIALIZED (
    SELECT queue, class FROM pair LIMIT 1000
), soon AS MATERIALIZED (
    SELECT j.queue, j.class FROM deferred d JOIN job j ON j.n = d.n AND j.stream IS NULL
    WHERE d.due_at <= %(soon)s AND EXISTS (SELECT FROM open) ORDER BY d.due_at LIMIT 16
)
SELECT ARRAY(SELECT id FROM open), ARRAY(SELECT name FROM open), ARRAY(SELECT is_gated FROM open),
       ARRAY(SELECT queue FROM soon UNION ALL SELECT queue FROM page),
       ARRAY(SELECT class FROM soon UNION ALL SELECT class FROM page)

-- :name clock
SELECT extract(epoch FROM clock_timestamp())::float8
