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

-- :name forget_dead
DELETE FROM bell WHERE NOT EXISTS (SELECT FROM pg_stat_get_activity(backend))

-- :name queues
SELECT id, name, is_gated FROM queue WHERE NOT paused

-- :name soon
SELECT j.queue, j.class FROM deferred d JOIN job j ON j.n = d.n AND j.stream IS NULL
WHERE d.due_at <= %(soon)s ORDER BY d.due_at LIMIT 16

-- :name clock
SELECT extract(epoch FROM clock_timestamp())::float8
