-- Schedules. Indexes: the primary key, schedule_next. All but `all` run under the write lock.

-- :name all
SELECT name, spec, next_at, last_at, paused FROM schedule ORDER BY name

-- :name one
SELECT name, spec, next_at, last_at, paused FROM schedule WHERE name = ?1

-- :name put
INSERT OR REPLACE INTO schedule (name, spec, next_at, last_at, paused) VALUES (?, ?, ?, ?, ?)

-- :name drop
DELETE FROM schedule WHERE name = ?1 RETURNING name

-- :name due
SELECT name, spec, next_at, last_at, paused FROM schedule INDEXED BY schedule_next
WHERE paused = 0 AND next_at IS NOT NULL AND next_at <= ?1 ORDER BY next_at, name LIMIT ?2

-- :name next
SELECT next_at FROM schedule INDEXED BY schedule_next
WHERE paused = 0 AND next_at IS NOT NULL ORDER BY next_at LIMIT 1
