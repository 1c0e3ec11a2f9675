-- release: gives back what a running claim acquired.
-- Keys: runs, set:limit, gauges, holders:<key>, gates:<class>, gate:<key>, openings, and those of a ring. Work: the
-- limits that were acquired together.
-- ARGV: now, (n, request, fence) of the claim, request, what was spent by meter.
local rows = use('rows')
local _, n, request, fence = limit(ARGV[2], 3)
local run = call('HGET', NS .. 'runs', n)
local job = run and rows.claimed(n, run)
if job and rows.is_claim(job, request, fence) then
  use('flow').release(n, run, job, ARGV[3], cmsgpack.unpack(ARGV[4]))
  ring()
end
return 1
