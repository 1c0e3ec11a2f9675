-- Counters: each transaction adds its own rows, nobody waits for another. The sweep folds them.

-- :name add
INSERT INTO delta (part, queue, scheduled, ready, running, succeeded, failed, cancelled, expired, waiting)
VALUES ((SELECT last_value FROM delta_turn), %s, %s, %s, %s, %s, %s, %s, %s, %s)
