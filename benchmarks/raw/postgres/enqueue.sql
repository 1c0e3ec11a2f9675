-- Appends to ready, and to the right edge of its primary key.
INSERT INTO raw.ready (body) SELECT unnest(%s::bytea[])
