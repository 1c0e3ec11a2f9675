-- Large values in chunks, and the watch for orphans. Index: blob (job, digest, chunk).
-- Writing runs under the write lock, reading in a snapshot.

-- :name remove
DELETE FROM blob WHERE job = ?1 AND digest = ?2

-- :name add
INSERT INTO blob (job, digest, chunk, data) VALUES (?, ?, ?, ?)

-- :name watched
SELECT check_at FROM blob_watch WHERE job = ?1 AND digest = ?2 AND check_at > ?3

-- :name watch
INSERT OR IGNORE INTO blob_watch (check_at, job, digest) VALUES (?, ?, ?)

-- :name unwatch
DELETE FROM blob_watch WHERE check_at = ? AND job = ? AND digest = ?

-- :name read
SELECT data FROM blob WHERE job = ?1 AND digest = ?2 ORDER BY chunk
