-- Rollups and history. Indexes: the primary keys, label.name. Writing runs under the write lock, once per
-- transaction; reading in a snapshot.

-- :name add
INSERT INTO rollup (minute, task, queue, word, bucket, count, sum_us) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (minute, task, queue, word, bucket)
DO UPDATE SET count = count + excluded.count, sum_us = sum_us + excluded.sum_us

-- :name tell
INSERT INTO history (at, data) VALUES (?, ?)

-- :name label
INSERT INTO label (name) VALUES (?1) ON CONFLICT (name) DO UPDATE SET name = name RETURNING id

-- :name labels
SELECT id, name FROM label

-- :name session
SELECT key FROM session WHERE id = ?1

-- :name workflow
SELECT f.name FROM node w JOIN workflow f ON f.id = w.workflow WHERE w.n = ?1

-- :name between
SELECT minute, task, queue, word, bucket, count, sum_us FROM rollup
WHERE minute >= ?1 AND minute < ?2 ORDER BY minute LIMIT ?3

-- :name next_minute
SELECT minute FROM rollup WHERE minute > ?1 AND minute < ?2 ORDER BY minute LIMIT 1

-- :name first_minute
SELECT minute FROM rollup ORDER BY minute LIMIT 1

-- :name forget_rollups
DELETE FROM rollup WHERE (minute, task, queue, word, bucket) IN (
    SELECT minute, task, queue, word, bucket FROM rollup WHERE minute <= ?1
    ORDER BY minute, task, queue, word, bucket LIMIT ?2
) RETURNING minute

-- :name newest
SELECT seq FROM sqlite_sequence WHERE name = 'history'

-- :name history
SELECT seq, data FROM history WHERE seq > ?1 ORDER BY seq LIMIT ?2

-- :name oldest
SELECT seq, at FROM history ORDER BY seq LIMIT ?1

-- :name forget_history
DELETE FROM history WHERE seq <= ?1
