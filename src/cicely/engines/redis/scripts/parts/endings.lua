-- How jobs end. What is alike is gathered, and `write` writes it.
--
-- The end of a job, `d:<n>`: state, ended_at, started_at, session, request, fence, attempt, errors,
-- crashes, lost, reason, outcome, delete_at, large, error, result. A large result lies in `r:<n>`.
-- `request` is '' unless an outcome ended the job: only then is repeating it answered `already`. It is
-- what the caller left in the job's `receipt`.
local counts, rows, tally = use('counts'), use('rows'), use('tally')
local bin = rows.bin
-- `ends`: how the ends of this call count, by n.
-- `is_silent`: jobs end that were never published; that is nobody's news.
-- `alike`: what plain ends were like of which more may come, until they are written.
local endings = { ended_ids = {}, ends = {}, is_silent = false }
local CHILDREN, MEMBER, WATCHED = rows.CHILDREN, rows.MEMBER, rows.WATCHED
local ran, SUCCEEDED, LONG_RUN_US = tally.ran, tally.SUCCEEDED, tally.LONG_RUN_US
local INLINE_BYTES = 1024
local NOTHING, SMALL, ENDS = '\196\0', pack(0), NS .. 'd:'

local written, gone_runs, unheld, unasked, old = {}, {}, {}, {}, {}

function endings.leave_run(n, session, request, deadline_at)
  -- A full server refuses a script by its first write, and removing is never refused: so what runs can end.
  if #gone_runs == 0 then call('HDEL', NS .. 'runs', n) end
  gone_runs[#gone_runs + 1] = n
  local held = unheld[session]
  if not held then
    held = {}
    unheld[session], unasked[session] = held, {}
  end
  held[#held + 1] = n
  local asked = unasked[session]
  asked[request] = (asked[request] or 0) + 1
  if deadline_at then call('ZREM', NS .. 'late', n) end
end

function endings.leave_waiting(row)
  if row.due_at then call('ZREM', NS .. 'due', row.n) end
  if row.waits then
    use('graph').stop_waiting(row.n)
  elseif not row.due_at then
    use('ready').remove(row)
  end
  if row.expires_at then call('ZREM', NS .. 'expiring', row.n) end
end

-- Notes an end; a result too large to be read with it lies apart. Jobs of a workflow are deleted together.
local function note(n, id, end_without_large, error, result, delete_at, flags)
  local size, large = #written, 0
  if #result > INLINE_BYTES then
    written[size + 1], written[size + 2] = NS .. 'r:' .. n, result
    size, large, result = size + 2, 1, ''
  end
  written[size + 1] = NS .. 'd:' .. n
  written[size + 2] = end_without_large .. pack(large) .. error .. bin(result)
  if flags % 32 < MEMBER then
    local ns = old[delete_at]
    if not ns then
      ns = {}
      old[delete_at] = ns
    end
    ns[#ns + 1] = n
  end
  endings.ended_ids[#endings.ended_ids + 1] = id
end

-- Has the edges out of a job decided that has ended with this fate.
function endings.decide_behind(n, id, fate)
  endings.ends[n] = { fate = fate, id = id }
  use('agenda').push({ kind = 'decide', n = n, cursor = '0', cause = '', reason = '' })
end

local function count_alike(alike)
  endings.alike = nil
  if alike.more == 0 then return end
  alike.asked[alike.request] = alike.asked[alike.request] + alike.more
  ran(SUCCEEDED, alike.queue, alike.task, alike.started_at, alike.more)
  counts.move(alike.queue, 'running', 'succeeded', alike.more)
end

-- The plain end of a plain job that ran, without the tables that other ends take. Where nothing but the job and its
-- result may be different in the next one, that goes by `succeed_alike`.
function endings.succeed(
  n, session, request, started_at, fence, flags, errors, crashes, lost, id, queue, keep_s, result, task
)
  -- A claim of format 2 does not say it.
  local is_said = task
  if not task then task = use('past').task_of({ n = n }) end
  if endings.alike then count_alike(endings.alike) end
  local us = ran(SUCCEEDED, queue, task, started_at)
  if us >= LONG_RUN_US or flags >= WATCHED then
    use('past').succeeded(n, session, us, fence, flags, 1 + errors + crashes + lost, id, queue, task)
  end
  endings.leave_run(n, session, request, nil)
  local delete_at = now + keep_s
  local packed = pack(
    'succeeded', now, started_at, session, request, fence, 1 + errors + crashes + lost, errors, crashes, lost, '',
    'succeeded', delete_at
  )
  note(n, id, packed, NOTHING, result, delete_at, flags)
  counts.move(queue, 'running', 'succeeded', 1)
  local leads = flags % 32 > 1 and rows.has(flags, CHILDREN)
  if is_said and flags < WATCHED and us < LONG_RUN_US then
    endings.alike = {
      packed = packed .. SMALL .. NOTHING, held = unheld[session], asked = unasked[session], request = request,
      old = flags % 32 < MEMBER and old[delete_at], queue = queue, task = task, started_at = started_at,
      leads = leads, more = 0,
    }
  end
  if leads then use('releases').add(n, id) end
end

-- Another end like the last one.
function endings.succeed_alike(alike, n, id, result)
  if #result > INLINE_BYTES then return false end
  gone_runs[#gone_runs + 1] = n
  local held, ns, ids, size = alike.held, alike.old, endings.ended_ids, #written
  held[#held + 1], ids[#ids + 1] = n, id
  if ns then ns[#ns + 1] = n end
  written[size + 1], written[size + 2] = ENDS .. n, alike.packed .. bin(result)
  alike.more = alike.more + 1
  if alike.leads then use('releases').add(n, id) end
  return true
end

-- `job` is a row of a waiting job or the `claimed` part of a running one, which has left its place. `fate` says how
-- its end counts for those after it, where its state does not.
function endings.finish(job, state, reason, outcome, error, result, fate)
  if not endings.is_silent then use('past').ended(job, state, reason) end
  local delete_at = now + (state == 'failed' and job.keep_failed_s or job.keep_s)
  local packed = pack(
    state, now, job.started_at, job.session, job.receipt or '', job.fence, job.attempt, job.errors, job.crashes,
    job.lost, reason, outcome, delete_at
  )
  note(job.n, job.id, packed, bin(error), result, delete_at, job.flags)
  if job.unique ~= '' then call('HDEL', NS .. 'unique', job.unique) end
  if state ~= 'succeeded' then call('ZADD', NS .. 'ended:' .. state, job.n, job.n) end
  local source = job.is_running and 'running' or job.waits and 'waiting' or job.due_at and 'scheduled' or 'ready'
  counts.move(job.queue, source, state, 1)
  if rows.has(job.flags, CHILDREN) then endings.decide_behind(job.n, job.id, fate or use('rules').fate[state]) end
end

local function write_gone_runs()
  many('HDEL', NS .. 'runs', gone_runs)
  for session, ns in pairs(unheld) do many('SREM', NS .. 'held:' .. session, ns) end
  for session, requests in pairs(unasked) do
    for request, jobs in pairs(requests) do
      if call('HINCRBY', NS .. 'asked:' .. session, request, -jobs) <= 0 then
        call('HDEL', NS .. 'asked:' .. session, request)
      end
    end
  end
  gone_runs, unheld, unasked = {}, {}, {}
end

function endings.flush()
  if endings.alike then count_alike(endings.alike) end
  if #gone_runs > 0 then write_gone_runs() end
  many('MSET', nil, written)
  for delete_at, ns in pairs(old) do
    local bucket = rows.bucket(delete_at)
    many('RPUSH', NS .. 'old:' .. bucket, ns)
    call('ZADD', NS .. 'old', bucket, bucket)
  end
  written, old = {}, {}
  if made.ready or made.flow then use('ready').write() end
  counts.write()
end

-- Writes what has ended, and carries out what follows from it.
function endings.write()
  endings.flush()
  if made.agenda then
    made.agenda.run()
    endings.flush()
  end
end

return endings
