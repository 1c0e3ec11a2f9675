-- Emptying parts of ready, run, delta, came and holder without deleting: TABLE is one of them, PART is one of its parts.
-- Locks: one turn at a time (advisory); the part that is emptied, exclusively, for a moment. It is taken
-- before anything is read, so that whoever waits for it sees the rows where they are then.

-- :name sizes
SELECT (SELECT last_value FROM TABLE_turn)::int, pg_relation_size('TABLE_0'), pg_relation_size('TABLE_1'),
       pg_relation_size('TABLE_2'), pg_relation_size('TABLE_3')

-- :name alone
SELECT pg_try_advisory_xact_lock(hashtext('cicely turn'), hashtext(current_schema()))

-- :name living
SELECT count(*) FROM (SELECT FROM PART LIMIT %(limit)s) AS living

-- :name is_held
SELECT EXISTS (
    SELECT FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE l.relation = 'PART'::regclass AND l.granted AND a.xact_start < clock_timestamp() - interval '1 s'
)

-- :name patience
SET LOCAL lock_timeout = '50ms'

-- :name lock
LOCK TABLE PART IN ACCESS EXCLUSIVE MODE

-- :name copy_ready
INSERT INTO ready (part, queue, stream, class, rank, n)
SELECT (SELECT last_value FROM ready_turn), queue, stream, class, rank, n FROM PART

-- :name copy_run
INSERT INTO run (part, n, session, request, fence, claimed_at, deadline_at, cancelling, traits, charged)
SELECT (SELECT last_value FROM run_turn), n, session, request, fence, claimed_at, deadline_at, cancelling,
       traits, charged
FROM PART

-- :name copy_delta
INSERT INTO delta (part, queue, scheduled, ready, running, succeeded, failed, cancelled, expired, waiting,
                   minute, word, class, name, bucket, count, sum_us)
SELECT (SELECT last_value FROM delta_turn), queue, scheduled, ready, running, succeeded, failed, cancelled,
       expired, waiting, minute, word, class, name, bucket, count, sum_us FROM PART

-- :name copy_came
INSERT INTO came (part, stream, rank, n) SELECT (SELECT last_value FROM came_turn), stream, rank, n FROM PART

-- :name copy_holder
INSERT INTO holder (part, valve, at, n, request)
SELECT (SELECT last_value FROM holder_turn), valve, at, n, request FROM PART

-- :name empty
TRUNCATE PART

-- :name bells_bytes
SELECT pg_relation_size('bell')

-- :name bells
SELECT id, channel, backend, owner, sieve FROM bell

-- :name bell
INSERT INTO bell (id, channel, backend, owner, sieve) VALUES (%s, %s, %s, %s, %s)

-- :name next
SELECT setval('TABLE_turn', %(part)s)
