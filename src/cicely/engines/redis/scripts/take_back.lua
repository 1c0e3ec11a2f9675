-- take_back: a part of claim and sweep: takes back claims past their deadline, as the client decided.
-- Keys: runs, held:<id>, asked:<id>, late, and those of a job that ends or runs again.
-- Work: the claims that are named.
-- ARGV: now, plans, how many; then for each its n, request, fence and the number of its plan, and its payload.
local plans = cmsgpack.unpack(ARGV[2])
local rows, taken = use('rows'), 0
for i = 1, tonumber(ARGV[3]) do
  if made.agenda then made.agenda.run() end
  local _, n, request, fence, choice = limit(ARGV[2 + 2 * i], 4)
  local run = call('HGET', NS .. 'runs', n)
  local job = run and rows.claimed(n, run)
  local is_same = job and rows.is_claim(job, request, fence)
  if is_same and job.deadline_at and job.deadline_at <= now then
    use('decisions').carry_out(job, plans[choice], ARGV[3 + 2 * i], '')
    taken = taken + 1
  end
end
use('endings').write()
ring()
return taken
