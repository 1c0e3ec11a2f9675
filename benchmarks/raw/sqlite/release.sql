-- One row by its key, and only with its token.
DELETE FROM run WHERE id = ?1 AND token = ?2 RETURNING id
