-- Interned names: queues and classes, append-only. Indexes: the UNIQUE ones of both tables.
-- Each runs in a short transaction of its own: who needs a new name waits for no other's work.

-- :name add_queue
INSERT INTO queue (name) VALUES (%(name)s) ON CONFLICT (name) DO NOTHING

-- :name add_class
INSERT INTO class (task, kind) VALUES (%(task)s, %(kind)s) ON CONFLICT (task, kind) DO NOTHING

-- :name queues
SELECT id, name FROM queue

-- :name classes
SELECT id, task, kind FROM class
