INSERT INTO run (id, token, session) VALUES (?1, ?2, ?3)
