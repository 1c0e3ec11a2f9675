-- Interned names: queues and classes, append-only. Indexes: the UNIQUE ones of both tables.

-- :name queues_after
SELECT id, name FROM queue WHERE id > ?1

-- :name classes_after
SELECT id, task, kind FROM class WHERE id > ?1

-- :name add_queue
INSERT INTO queue (name) VALUES (?1) ON CONFLICT (name) DO UPDATE SET name = name RETURNING id

-- :name add_class
INSERT INTO class (task, kind) VALUES (?1, ?2)
ON CONFLICT (task, kind) DO UPDATE SET task = task RETURNING id
