-- Key order: an append to the last page of ready.
INSERT INTO ready (body) VALUES (?1)
