-- Counters: each transaction adds its own rows, nobody waits for another. The sweep folds them.

-- :name add
INSERT INTO delta (queue, scheduled, ready, running, succeeded, failed, cancelled, expired)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
