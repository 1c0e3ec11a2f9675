-- save: keeps progress, checkpoints and deadlines of claims that still hold.
-- Keys: runs, l:<n>, late, s:<n>, o:<n>, j:<n>. Work: the saves of the call.
-- ARGV: now, then six for each: (n, request, fence), '1' or '0' for having progress, progress, the same for
-- a checkpoint, its steps as keys and values in turns, or ''. The visibility is the fourth value of the first.
-- Returns for each 1 where its claim holds, else 0.
local rows, replies = use('rows'), {}
for i = 1, (#ARGV - 1) / 6 do
  local at = 6 * i - 4
  local _, n, request, fence, visibility_s = limit(ARGV[at], 4)
  local run = call('HGET', NS .. 'runs', n)
  local job = run and rows.claimed(n, run)
  if job and rows.is_claim(job, request, fence) then
    if ARGV[at + 1] == '1' then call('HSET', NS .. 'l:' .. n, 'progress', ARGV[at + 2]) end
    if ARGV[at + 3] == '1' then call('HSET', NS .. 'l:' .. n, 'checkpoint', ARGV[at + 4]) end
    if ARGV[at + 5] ~= '' then
      use('suspending').record_steps(n, cmsgpack.unpack(ARGV[at + 5]))
      run = call('HGET', NS .. 'runs', n)
    end
    if visibility_s then
      job.deadline_at = now + visibility_s
      rows.rewrite_claim(run, job)
      call('ZADD', NS .. 'late', job.deadline_at, n)
    end
    replies[i] = 1
  else
    replies[i] = 0
  end
end
return replies
