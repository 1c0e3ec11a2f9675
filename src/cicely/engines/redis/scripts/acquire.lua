-- acquire: takes some of the limits for a running claim, all or none.
-- Keys: runs, set:limit, gauges, holders:<key>, gates:<class>, gate:<key>, openings. Work: the limits that are named.
-- ARGV: now, session, (n, request, fence) of the claim, request, the limits and costs of each in turns.
-- Returns 'closed', or 1 where it was given, else 0 and in how many seconds to ask again ('': nobody knows).
local rows = use('rows')
local _, n, request, fence = limit(ARGV[3], 3)
local run = call('HGET', NS .. 'runs', n)
local job = run and rows.claimed(n, run)
if not job or job.session ~= ARGV[2] or not rows.is_claim(job, request, fence) then return 'closed' end
return { use('flow').acquire(n, run, job, ARGV[4], cmsgpack.unpack(ARGV[5])) }
