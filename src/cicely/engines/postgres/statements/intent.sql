-- What is left to do of an end, a revival or a publication. Indexes: intent.id, intent_n.
-- Locks: one process at a time carries intents out (advisory), in their order.

-- :name write
INSERT INTO intent (kind, n, job, fate, cause, reason, after, upto) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)

-- The number of a late one is 2^62 more than it would be: it stands behind all others.
-- :name write_late
INSERT INTO intent (id, kind, n, job, fate, cause, reason, after, upto) OVERRIDING SYSTEM VALUE
VALUES (nextval(pg_get_serial_sequence('intent', 'id')) + 4611686018427387904, %s, %s, %s, %s, %s, %s, %s, %s)

-- :name busy
SELECT DISTINCT n FROM intent WHERE n = ANY(%(ns)b::bigint[]) AND id < 4611686018427387904

-- :name alone
SELECT pg_try_advisory_xact_lock(hashtext('cicely intents'), hashtext(current_schema()))

-- :name first
SELECT id, kind, n, job, fate, cause, reason, after, upto FROM intent ORDER BY id LIMIT %(limit)s

-- :name remove
DELETE FROM intent WHERE id = %s

-- :name move_on
UPDATE intent SET after = %s WHERE id = %s

-- :name any
SELECT 1 FROM intent LIMIT 1
