-- Workflows: their publication, and their end. Indexes: workflow.name, workflow_check, node_held,
-- node_workflow. Runs under the write lock.

-- :name known
SELECT id, published FROM workflow WHERE name = ?1

-- :name add
INSERT INTO workflow (name, check_at, published) VALUES (?1, ?2, ?3)
ON CONFLICT (name) DO UPDATE SET published = max(published, ?3) RETURNING id

-- :name held
SELECT n FROM node WHERE workflow = ?1 AND held = 1 ORDER BY n LIMIT ?2

-- :name let_go
UPDATE node SET held = 0 WHERE n IN carray(?1)

-- :name due
SELECT id, cursor, phase FROM workflow WHERE check_at <= ?1 ORDER BY check_at LIMIT 1

-- :name held_since
SELECT j.created_at FROM node w JOIN job j ON j.n = w.n WHERE w.workflow = ?1 AND w.held = 1 ORDER BY w.n LIMIT 1

-- :name members
SELECT n FROM node WHERE workflow = ?1 AND n > ?2 ORDER BY n LIMIT ?3

-- :name last_ends
SELECT j.n, j.flags, d.ended_at + CASE d.state WHEN 4 THEN j.keep_failed_s ELSE j.keep_s END
FROM carray(?1) c JOIN job j ON j.n = c.value LEFT JOIN done d ON d.n = j.n

-- :name look_again
UPDATE workflow SET check_at = ?2, cursor = ?3, phase = ?4 WHERE id = ?1

-- :name stay
UPDATE workflow SET check_at = ?2, cursor = 0, phase = 0
WHERE id = (SELECT workflow FROM node WHERE n = ?1)

-- :name drop
DELETE FROM workflow WHERE id = ?1
