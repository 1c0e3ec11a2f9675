-- Claims past a deadline of their own. What becomes of each depends on its job, and the client decides it.
-- For each: n, request, fence, errors, crashes, lost, max_receives.
local overdue = {}

function overdue.list(batch)
  local ns = call('ZRANGEBYSCORE', NS .. 'late', '-inf', now, 'LIMIT', 0, batch)
  local late = {}
  for i, run in ipairs(read_all(NS .. 'runs', ns)) do
    local rows = use('rows')
    local row = run and rows.of(ns[i])
    if row then
      local job = rows.claimed(ns[i], run)
      late[#late + 1] = {
        job.n, job.request, job.fence % rows.FENCES, job.errors, job.crashes, job.lost, row.max_receives,
      }
    else
      call('ZREM', NS .. 'late', ns[i])
    end
  end
  return late
end

return overdue
