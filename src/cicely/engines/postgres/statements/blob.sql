-- Large values, which TOAST keeps in chunks, and the watch for orphans. Index: blob (job, digest).

-- :name put
INSERT INTO blob (job, digest, data) VALUES (%(job)s, %(digest)s, %(data)s)
ON CONFLICT (job, digest) DO UPDATE SET data = excluded.data

-- :name watch
INSERT INTO blob_watch (check_at, job, digest) VALUES (%(check_at)s, %(job)s, %(digest)s)
ON CONFLICT DO NOTHING

-- :name read
SELECT data FROM blob WHERE job = %(job)s AND digest = %(digest)s

-- :name remove
DELETE FROM blob WHERE job = %s AND digest = %s

-- :name watched
SELECT 1 FROM blob_watch WHERE job = %s AND digest = %s AND check_at > %s LIMIT 1

-- :name unwatch
DELETE FROM blob_watch WHERE check_at = %s AND job = %s AND digest = %s
