-- What is still to be done because of an end, a publication or a revival. Indexes: intent_n, intent_order.
-- is_late: 1 what waits until all else is done, -1 what comes before it. Runs under the write lock.

-- :name any
SELECT 1 FROM intent LIMIT 1

-- :name any_older
SELECT 1 FROM intent WHERE is_late <= 0 LIMIT 1

-- :name of_any
SELECT 1 FROM intent WHERE n IN carray(?1) LIMIT 1

-- :name of
SELECT 1 FROM intent WHERE n = ?1 AND is_late <= 0 LIMIT 1

-- :name next
SELECT id, kind, n, cursor, cause, reason, is_late FROM intent ORDER BY is_late, id LIMIT 1

-- :name add
INSERT INTO intent (kind, n, cursor, cause, reason, is_late) VALUES (?, ?, ?, ?, ?, ?)

-- :name move
UPDATE intent SET cursor = ?2 WHERE id = ?1

-- :name drop
DELETE FROM intent WHERE id = ?1
