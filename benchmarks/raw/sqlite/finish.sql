INSERT INTO done (id, result, ended_at) VALUES (?1, ?2, ?3)
