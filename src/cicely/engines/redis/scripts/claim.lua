-- claim: hands out ready jobs to a session.
-- Keys: session:<id>, tasks:<id>, held:<id>, asked:<id>, runs, the ready index, due, expiring, late, paused,
-- j:<n>, l:<n>, b:<n>, count. Work: what is taken, the classes ready in the queues that are asked for,
-- 256 promotions and 2,048 expiries.
-- ARGV: now, session, demand, '1' where overdue claims were taken back just now.
-- Returns 'closed', or {'late', overdue claims}, or {'taken', what `take` returns}.
local session = use('abilities').session(ARGV[2])
if not session then return { 'closed' } end
local demand = cmsgpack.unpack(ARGV[3])
local late = demand[4] and ARGV[4] ~= '1' and use('overdue').list(use('taking').BATCH)
if late and #late > 0 then return { 'late', late } end
local reply = use('taking').take(session, demand)
ring(session, #reply > 1)
return { 'taken', reply }
