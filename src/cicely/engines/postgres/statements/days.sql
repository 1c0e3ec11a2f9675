-- The parts of done: one for each day on which ends expire; DAY is its number.
-- Locks: one process at a time looks after them (advisory). A new part is attached: that keeps nobody
-- waiting. One that is over is shut to writers (SHARE; nothing goes there any more) while it is looked
-- through, then done itself is locked exclusively for the moment of the drop, or not at all (patience).

-- :name known
SELECT coalesce(%(now)s::float8, extract(epoch FROM clock_timestamp())::float8),
       ARRAY(SELECT day FROM day), ARRAY(SELECT day FROM day WHERE is_open),
       ARRAY(SELECT day FROM day WHERE NOT is_open AND swept_at >= (day + 1) * 86400.0::float8)

-- :name alone
SELECT pg_try_advisory_xact_lock(hashtext('cicely days'), hashtext(current_schema()))

-- :name open
INSERT INTO day (day, swept_at) VALUES (%(day)s, %(day)s * 86400.0::float8)
ON CONFLICT DO NOTHING RETURNING day

-- :name make
CREATE TABLE done_DAY (LIKE done INCLUDING DEFAULTS INCLUDING STORAGE INCLUDING INDEXES)

-- :name attach
ALTER TABLE done ATTACH PARTITION done_DAY FOR VALUES IN (DAY)

-- :name shut
UPDATE day SET is_open = false WHERE day = ANY(%(days)b::int[]) AND is_open

-- :name lock
LOCK TABLE done_DAY IN SHARE MODE

-- :name look
SELECT max(d.n), count(j.n)
FROM (SELECT n FROM done_DAY WHERE n > %(after)s ORDER BY n LIMIT 20000) d LEFT JOIN job j ON j.n = d.n

-- :name sweep_anew
UPDATE day SET swept_at = day * 86400.0::float8 WHERE day = %(day)s

-- :name drop
DROP TABLE done_DAY

-- :name forget
DELETE FROM day WHERE day = %(day)s
