-- Edges and what jobs of a workflow have beside their rows. Indexes: edge_out (parent, id), edge_in
-- (child, id), edge_broken, the primary keys of node, done and job. All but `parents`, `joined` and
-- `steps_of` run under the write lock.

-- :name numbers
SELECT id, n FROM job WHERE id IN carray(?1)

-- :name gone_numbers
SELECT id, n FROM gone WHERE id IN carray(?1)

-- :name gone_id
SELECT id FROM gone WHERE n = ?1

-- :name add_gone
INSERT OR IGNORE INTO gone (n, id) VALUES (?1, ?2)

-- :name free_gone_id
UPDATE gone SET id = NULL WHERE n = ?1

-- :name forget_gone
DELETE FROM gone WHERE n IN carray(?1)
AND NOT EXISTS (SELECT 1 FROM edge WHERE parent = gone.n)
AND NOT EXISTS (SELECT 1 FROM edge WHERE child = gone.n)

-- :name adopt
UPDATE edge SET parent = ?2 WHERE parent = ?1

-- :name tombs
SELECT id, state FROM tomb WHERE id IN carray(?1)

-- :name nodes
SELECT n, waits, held, pending, broken, joins, event FROM node WHERE n IN carray(?1)

-- :name ends
SELECT d.n, d.state, coalesce(w.passes, 0), w.cause, j.id
FROM carray(?1) c JOIN done d ON d.n = c.value JOIN job j ON j.n = d.n LEFT JOIN node w ON w.n = d.n

-- :name has_edge_out
SELECT 1 FROM edge INDEXED BY edge_out WHERE parent = ?1 AND child = ?2 LIMIT 1

-- :name has_edge_in
SELECT 1 FROM edge INDEXED BY edge_in WHERE parent = ?1 AND child = ?2 LIMIT 1

-- :name add_edge
INSERT INTO edge (parent, child, traits, held) VALUES (?, ?, ?, ?)

-- :name add_node
INSERT INTO node (n, waits, held, pending, broken, joins, workflow, grp) VALUES (?, ?, ?, ?, ?, ?, ?, ?)

-- :name grow
UPDATE node SET pending = pending + ?, broken = broken + ?, joins = joins + ? WHERE n = ?

-- :name flag
UPDATE job SET flags = flags | ?2 WHERE n IN carray(?1) AND flags & ?2 <> ?2

-- :name open_out_of
SELECT e.id, e.parent, e.child, e.traits
FROM carray(?1) c CROSS JOIN edge e INDEXED BY edge_out ON e.parent = c.value
WHERE e.held IS NULL LIMIT ?2

-- :name out_of
SELECT id, child, traits, held FROM edge INDEXED BY edge_out
WHERE parent = ?1 AND id > ?2 ORDER BY id LIMIT ?3

-- :name into
SELECT e.id, e.parent, EXISTS (SELECT 1 FROM done WHERE n = e.parent) FROM edge e INDEXED BY edge_in
WHERE e.child = ?1 AND e.id > ?2 ORDER BY e.id LIMIT ?3

-- :name first_broken
SELECT parent, traits FROM edge INDEXED BY edge_broken
WHERE child = ?1 AND held = 0 AND (?2 OR traits & ?3 = 0) ORDER BY id LIMIT 1

-- :name all_hold
UPDATE edge SET held = 1 WHERE id IN carray(?1)

-- :name hold
UPDATE edge SET held = ? WHERE id = ?

-- :name reopen
UPDATE edge SET held = NULL WHERE id = ?1

-- :name decided
UPDATE node SET pending = pending - ?, broken = broken + ? WHERE n = ?

-- The last: whether a place among the ready jobs is not all that it gets.
-- :name freed
SELECT n, queue, class, priority, ageing_s,
       rank <> 0 OR fence > 0 OR start IS NOT NULL OR lane <> '' OR flow IS NOT NULL OR shuns IS NOT NULL
FROM job WHERE n IN carray(?1)

-- :name go_free
UPDATE node SET waits = 0, pending = 0, rank = ?2 WHERE n IN carray(?1)

-- :name stop_waiting
UPDATE node SET waits = 0 WHERE n IN carray(?1)

-- :name go_ready
UPDATE job SET due_at = NULL, rank = CASE WHEN ageing_s > 0
    THEN ?2 - CAST(priority * ageing_s * 1e6 AS INTEGER) ELSE ((9 - priority) << 52) + ?2 END
WHERE n IN carray(?1) AND (fence > 0 OR start IS NULL)
RETURNING n, queue, lane <> '' OR flow IS NOT NULL OR shuns IS NOT NULL

-- :name go_later
UPDATE job SET rank = ?2, due_at = ?3, expires_at = ?4 WHERE n = ?1

-- :name clear_event
UPDATE node SET event = NULL, event_key = NULL, event_step = NULL WHERE n = ?1

-- :name because
INSERT INTO node (n, cause, passes) VALUES (?1, ?2, ?3)
ON CONFLICT (n) DO UPDATE SET cause = ?2, passes = ?3

-- :name cause
SELECT cause FROM node WHERE n = ?1

-- :name wait
INSERT INTO node (n, waits) VALUES (?1, 1) ON CONFLICT (n) DO UPDATE SET waits = 1

-- :name wait_again
INSERT INTO node (n, waits) VALUES (?1, 1)
ON CONFLICT (n) DO UPDATE SET waits = 1, cause = NULL, passes = 0

-- :name without_cause
UPDATE node SET cause = NULL, passes = 0 WHERE n = ?1

-- :name taken_along
SELECT w.n FROM node w JOIN done d ON d.n = w.n
WHERE w.cause = ?1 AND w.n > ?2 AND w.broken = 0 AND d.state = ?3 ORDER BY w.n LIMIT ?4

-- :name end_reason
UPDATE done SET reason = ?2 WHERE n = ?1

-- :name has_live_child
SELECT 1 FROM edge e INDEXED BY edge_out JOIN job j ON j.n = e.child
WHERE e.parent = ?1 AND NOT EXISTS (SELECT 1 FROM done WHERE n = e.child) LIMIT 1

-- :name cut_off
DELETE FROM edge WHERE id IN (SELECT id FROM edge INDEXED BY edge_in WHERE child = ?1 ORDER BY id LIMIT ?2)
RETURNING parent

-- :name has_edges_out
SELECT 1 FROM edge INDEXED BY edge_out WHERE parent = ?1 LIMIT 1

-- :name new_cause
UPDATE node SET cause = ?2 WHERE n = ?1

-- :name joined
SELECT w.n, w.joins, coalesce(f.name, ''), coalesce(w.grp, '') FROM carray(?1) c
JOIN node w ON w.n = c.value LEFT JOIN workflow f ON f.id = w.workflow

-- :name steps_of
SELECT c.value, (SELECT max(k) FROM step WHERE n = c.value) FROM carray(?1) c

-- Those that have succeeded, which takes fewer looks. Not sorted: that would cost as much again.
-- :name succeeded_parents
SELECT e.child, e.id, e.traits, j.id, d.result
FROM carray(?1) c CROSS JOIN edge e INDEXED BY edge_in ON e.child = c.value
JOIN done d ON d.n = e.parent AND d.state = ?2 JOIN job j ON j.n = e.parent

-- :name parents
SELECT e.child, e.traits, coalesce(j.id, g.id, ''), j.n IS NULL, d.state, r.n IS NOT NULL,
       coalesce(w.waits, 0), j.due_at, d.result,
       CASE WHEN cj.n IS NOT NULL THEN CASE WHEN cd.n IS NULL THEN cl.error ELSE cd.error END
            WHEN d.n IS NULL THEN l.error ELSE d.error END,
       coalesce(w.cause, '')
FROM carray(?1) c CROSS JOIN edge e INDEXED BY edge_in ON e.child = c.value
LEFT JOIN job j ON j.n = e.parent LEFT JOIN gone g ON g.n = iif(j.n IS NULL, e.parent, NULL)
LEFT JOIN done d ON d.n = e.parent LEFT JOIN run r ON r.n = iif(d.n IS NULL, e.parent, NULL)
LEFT JOIN node w ON w.n = iif(coalesce(d.state, 5) = 5, e.parent, NULL) LEFT JOIN live l ON l.n = iif(d.n IS NULL, e.parent, NULL)
LEFT JOIN job cj ON cj.id = w.cause LEFT JOIN done cd ON cd.n = cj.n LEFT JOIN live cl ON cl.n = cj.n
ORDER BY e.child, e.id LIMIT ?2 OFFSET ?3

-- :name starts
SELECT n, queue, lane <> '' OR flow IS NOT NULL OR shuns IS NOT NULL, class, priority, ageing_s, start FROM job WHERE n IN carray(?1)

-- :name live_cause
SELECT coalesce(w.cause, j.id) FROM job j LEFT JOIN node w ON w.n = j.n WHERE j.n = ?1
