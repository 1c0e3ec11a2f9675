INSERT INTO scheduled (due_at, id, body) VALUES (?1, ?2, ?3)
