-- The oldest ?1 ready jobs, from the left edge of ready's primary key.
DELETE FROM ready WHERE id IN (SELECT id FROM ready ORDER BY id LIMIT ?1) RETURNING id, body
