-- Counters: each transaction adds its own rows, nobody waits for another. The sweep folds them.

-- :name add
INSERT INTO delta (part, queue, scheduled, ready, running, succeeded, failed, cancelled, expired, waiting)
VALUES ((SELECT last_value FROM delta_turn), %s, %s, %s, %s, %s, %s, %s, %s, %s)

-- The same as numbers in the text: it rides on the commit, in one message.
-- :name add_last
INSERT INTO delta (part, queue, scheduled, ready, running, succeeded, failed, cancelled, expired, waiting)
VALUES ((SELECT last_value FROM delta_turn), {:d}, {:d}, {:d}, {:d}, {:d}, {:d}, {:d}, {:d}, {:d})
