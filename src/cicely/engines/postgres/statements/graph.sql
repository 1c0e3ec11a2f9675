-- Jobs that come after others. Indexes: node.n, edge_out, edge_in, arrival_child, gone_id.
-- Locks: where jobs stand before nodes (see lock_* of settle), nodes in the order of n. Nobody waits for the
-- node of a child whose parent has ended: where another has it, the decision is left as an arrival.

-- :name node_add
INSERT INTO node (n, delay_s, expires_s)
SELECT n, CASE WHEN fence = 0 AND due_at IS NOT NULL THEN due_at - created_at ELSE 0 END,
       CASE WHEN fence = 0 THEN expires_at - created_at END
FROM job WHERE n = ANY(%(ns)b::bigint[])
ON CONFLICT (n) DO NOTHING

-- :name flag
UPDATE job SET traits = traits | %(traits)s::smallint
WHERE n = ANY(%(ns)b::bigint[]) AND traits & %(traits)s::smallint = 0

-- :name nodes
SELECT n, waits, held, pending, broken, joins, passes, cause, event, event_step FROM node
WHERE n = ANY(%(ns)b::bigint[]) ORDER BY n FOR UPDATE

-- :name free_nodes
SELECT n, waits, held, pending, broken, joins, passes, cause, event, event_step FROM node
WHERE n = ANY(%(ns)b::bigint[]) AND pending <= %(most)s ORDER BY n FOR UPDATE SKIP LOCKED

-- :name lockable
SELECT n FROM node WHERE n = ANY(%(ns)b::bigint[]) ORDER BY n FOR UPDATE SKIP LOCKED

-- :name node_write
UPDATE node SET waits = i.waits, held = i.held, pending = i.pending, broken = i.broken, joins = i.joins,
                passes = i.passes, cause = i.cause,
                event = CASE WHEN i.waits THEN event END
FROM unnest(%(n)b::bigint[], %(waits)b::bool[], %(held)b::bool[], %(pending)b::int[], %(broken)b::int[],
            %(joins)b::int[], %(passes)b::bool[], %(cause)b::text[])
     AS i (n, waits, held, pending, broken, joins, passes, cause)
WHERE node.n = i.n

-- :name stop_waiting
UPDATE node SET waits = false, event = NULL WHERE n = ANY(%(ns)b::bigint[])

-- :name undecided
SELECT id, parent, child, traits FROM edge
WHERE parent = ANY(%(ns)b::bigint[]) AND held IS NULL AND id > %(after)s AND id <= %(upto)s
ORDER BY id LIMIT %(limit)s

-- All in one: the edges out of jobs that succeeded, whether an intent of theirs is open, and the jobs behind
-- them, where nobody else has their nodes.
-- :name behind
WITH link AS MATERIALIZED (
    SELECT id, parent, child, traits FROM edge
    WHERE parent = ANY(%(ns)b::bigint[]) AND held IS NULL ORDER BY id LIMIT %(limit)s
), mine AS MATERIALIZED (
    SELECT n, waits, held, pending, broken, event FROM node
    WHERE n IN (SELECT child FROM link) AND pending <= %(most)s ORDER BY n FOR UPDATE SKIP LOCKED
)
SELECT l.id, l.parent, l.child, l.traits, EXISTS (SELECT FROM intent WHERE intent.n = l.parent),
       m.n, m.waits AND NOT m.held AND m.event IS NULL, m.pending, m.broken
FROM link l LEFT JOIN mine m ON m.n = l.child ORDER BY l.id

-- :name hold
WITH decided AS (
    UPDATE edge SET held = true WHERE id = ANY(%(ids)b::bigint[])
)
UPDATE node SET pending = i.pending, waits = node.waits AND NOT i.goes
FROM unnest(%(ns)b::bigint[], %(pending)b::int[], %(goes)b::bool[]) AS i (n, pending, goes)
WHERE node.n = i.n

-- :name decided
SELECT id, parent, child, traits, held FROM edge
WHERE parent = %(n)s AND held IS NOT NULL AND id > %(after)s AND id <= %(upto)s
ORDER BY id LIMIT %(limit)s

-- :name decide
UPDATE edge SET held = i.held FROM unnest(%(ids)b::bigint[], %(helds)b::bool[]) AS i (id, held)
WHERE edge.id = i.id

-- :name undecide
UPDATE edge SET held = NULL WHERE id = ANY(%(ids)b::bigint[])

-- :name arrive
INSERT INTO arrival (child, edge, held)
SELECT child, edge, held FROM unnest(%(children)b::bigint[], %(edges)b::bigint[], %(helds)b::bool[])
    AS i (child, edge, held)

-- :name fold
DELETE FROM arrival WHERE child = ANY(%(ns)b::bigint[]) RETURNING child, held

-- A child whose arrivals are all that it waits for, or of which there are many. The first may be wrong in one
-- direction only: it looks too often.
-- :name ripe
SELECT c.n FROM unnest(%(ns)b::bigint[]) AS c (n) JOIN node g ON g.n = c.n, LATERAL (
    SELECT count(*) AS arrived, count(*) FILTER (WHERE NOT a.held) AS broken
    FROM (SELECT held FROM arrival WHERE child = c.n LIMIT %(many)s) AS a
) AS a
WHERE a.arrived > 0 AND (a.arrived >= g.pending OR a.arrived >= %(many)s OR a.broken > 0)

-- :name arrived
SELECT child FROM arrival LIMIT %(batch)s

-- :name first_broken
SELECT parent, traits FROM edge
WHERE child = %(n)s AND held = false AND (%(is_free)s OR traits & 16 = 0) ORDER BY id LIMIT 1

-- :name parents_of
SELECT id, parent FROM edge WHERE child = %(n)s AND id > %(after)s ORDER BY id LIMIT %(limit)s

-- :name origin
SELECT i.n, coalesce(j.id, g.id, ''), d.state, coalesce(p.passes, false), coalesce(p.cause, ''),
       (SELECT state FROM tomb WHERE tomb.id = g.id)
FROM (SELECT %(n)s::bigint AS n) AS i LEFT JOIN job j ON j.n = i.n LEFT JOIN gone g ON g.n = i.n
LEFT JOIN done d ON d.n = j.n LEFT JOIN node p ON p.n = i.n

-- :name cause
SELECT cause FROM node WHERE n = %(n)s

-- :name known
SELECT id, n FROM job WHERE id = ANY(%(ids)b::text[])

-- :name tombs
SELECT id, state FROM tomb WHERE id = ANY(%(ids)b::text[])

-- :name gone
SELECT id, n FROM gone WHERE id = ANY(%(ids)b::text[])

-- :name lose
INSERT INTO gone (n, id) SELECT nextval('job_n'), i.id FROM unnest(%(ids)b::text[]) AS i (id) RETURNING id, n

-- :name edges_into
SELECT child, parent FROM edge WHERE child = ANY(%(ns)b::bigint[]) AND parent = ANY(%(parents)b::bigint[])

-- :name add
INSERT INTO edge (parent, child, traits, held)
SELECT parent, child, traits, held
FROM unnest(%(parents)b::bigint[], %(children)b::bigint[], %(traits)b::smallint[], %(helds)b::bool[])
     WITH ORDINALITY AS i (parent, child, traits, held, number)
ORDER BY number

-- A claim that reads a plain row of ready meanwhile must not take it: see flag_parents in edges.py.
-- :name flag_run
UPDATE run SET traits = traits | %(traits)s::smallint WHERE n = ANY(%(ns)b::bigint[])

-- :name bring_back
UPDATE job SET errors = 0, crashes = 0, lost = 0, fence = i.fence, attempt = i.attempt,
               started_at = i.started_at, reason = i.reason, due_at = NULL, expires_at = NULL
FROM unnest(%(ns)b::bigint[], %(fences)b::int[], %(attempts)b::int[], %(starts)b::float8[],
            %(reasons)b::text[]) AS i (n, fence, attempt, started_at, reason)
WHERE job.n = i.n

-- :name clear_errors
UPDATE live SET error = NULL WHERE n = ANY(%(ns)b::bigint[]) AND error IS NOT NULL

-- :name ends
SELECT n, ended_at, started_at, session, request, fence, attempt, outcome, error
FROM done WHERE n = ANY(%(ns)b::bigint[])

-- :name undone
DELETE FROM done WHERE n = ANY(%(ns)b::bigint[])

-- :name re_reason
UPDATE done SET reason = %(reason)s WHERE n = %(n)s

-- :name because_of
SELECT g.n FROM node g JOIN done d ON d.n = g.n
WHERE g.cause = %(cause)s AND d.state = 5 AND g.broken = 0 AND g.n > %(after)s
ORDER BY g.n LIMIT %(limit)s

-- :name has_live_child
SELECT DISTINCT p.n FROM unnest(%(ns)b::bigint[]) AS p (n) WHERE EXISTS (
    SELECT FROM edge e JOIN job c ON c.n = e.child
    WHERE e.parent = p.n AND NOT EXISTS (SELECT FROM done d WHERE d.n = e.child)
)
