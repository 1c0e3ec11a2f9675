-- Schedules. Indexes: schedule.name, schedule_due. Locks: the one that is put, dropped or moved on.

-- :name all
SELECT name, spec, next_at, last_at, paused FROM schedule ORDER BY name

-- :name put
INSERT INTO schedule (name, spec, next_at, last_at, paused) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (name) DO UPDATE SET spec = excluded.spec, next_at = excluded.next_at,
                                 last_at = excluded.last_at, paused = excluded.paused

-- :name drop
DELETE FROM schedule WHERE name = %(name)s RETURNING name

-- :name tick
UPDATE schedule SET spec = %(spec)s, next_at = %(next_at)s, last_at = %(last_at)s, paused = %(paused)s
WHERE name = %(name)s AND spec = %(seen_spec)s AND paused = %(seen_paused)s
  AND next_at IS NOT DISTINCT FROM %(seen_next_at)s::float8
  AND last_at IS NOT DISTINCT FROM %(seen_last_at)s::float8
RETURNING name

-- :name due
SELECT name, spec, next_at, last_at, paused FROM schedule
WHERE next_at <= %(now)s AND NOT paused ORDER BY next_at, name LIMIT %(batch)s

-- :name next
SELECT next_at FROM schedule WHERE next_at IS NOT NULL AND NOT paused ORDER BY next_at LIMIT 1
