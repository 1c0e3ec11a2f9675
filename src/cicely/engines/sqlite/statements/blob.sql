-- Large values in chunks, and the watch for orphans. Index: blob (job, digest, chunk).
-- Writing runs under the write lock, reading in a snapshot.

-- :name remove_from
DELETE FROM blob WHERE job = ?1 AND digest = ?2 AND chunk >= ?3

-- :name remove_some
DELETE FROM blob WHERE rowid IN (
    SELECT rowid FROM blob WHERE job = ?1 AND digest = ?2 ORDER BY chunk LIMIT ?3
) RETURNING chunk

-- :name digests
SELECT digest FROM blob WHERE job = ?1 AND chunk = 0

-- :name waste
INSERT OR IGNORE INTO waste (job, digest) VALUES (?1, ?2)

-- :name unwaste
DELETE FROM waste WHERE job = ?1 AND digest = ?2

-- :name wasted
SELECT job, digest FROM waste LIMIT ?1

-- :name add
INSERT OR REPLACE INTO blob (job, digest, chunk, data) VALUES (?, ?, ?, ?)

-- :name watched
SELECT check_at FROM blob_watch WHERE job = ?1 AND digest = ?2 AND check_at > ?3

-- :name watch
INSERT OR IGNORE INTO blob_watch (check_at, job, digest) VALUES (?, ?, ?)

-- :name unwatch
DELETE FROM blob_watch WHERE check_at = ? AND job = ? AND digest = ?

-- :name read
SELECT data FROM blob
WHERE job = ?1 AND digest = ?2 AND NOT EXISTS (SELECT 1 FROM waste WHERE job = ?1 AND digest = ?2)
ORDER BY chunk
