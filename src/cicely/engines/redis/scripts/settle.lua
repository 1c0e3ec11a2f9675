-- settle: records how attempts ended, then claims for a demand, if there is one.
-- Keys: runs, held:<id>, asked:<id>, d:<n>, r:<n>, t:<token>, unique, ended:<state>, old, old:<instant>,
-- await, out:<n>, in:<n> and w:<n> of the jobs behind them, those of a job that runs again, and those of claim.
-- Work: the outcomes of the call, 512 jobs behind plain successes, 256 of those that follow otherwise, and that
-- of claim.
-- ARGV: now, session, demand or '', plans, how many outcomes, the outcomes.
-- Returns {'closed'}, or {'settled', verdicts}, then as claim does.
local session, demand
if ARGV[3] ~= '' then
  session, demand = use('abilities').session(ARGV[2]), cmsgpack.unpack(ARGV[3])
  if not session then return { 'closed' } end
end
local verdicts = use('settling').settle(4)
local reply = { 'settled', verdicts }
if demand then
  local late = demand[4] and use('overdue').list(use('taking').BATCH)
  if late and #late > 0 then
    reply[3], reply[4] = 'late', late
  else
    reply[3], reply[4] = 'taken', use('taking').take(session, demand)
  end
end
ring(session, not reply[4] or #reply[4] > 1)
return reply
