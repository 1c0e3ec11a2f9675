-- What a call writes down of what it does: the counts of the minute, and events. The same rules as core/rollup.py and
-- core/event.py.
--
-- Counts are in the part `tally`. `history` is a stream of events, numbered as they are written:
-- kind, at, name, reason, job_id, task, queue, workflow, attempt, fence, run_s.
local tally = use('tally')
local past = {}
local MINUTE_S, LONG_RUN_US = 60, tally.LONG_RUN_US
local CODES = {
  enqueued = 0, succeeded = 1, failed = 2, cancelled = 3, expired = 4, retried = 5, crashed = 6, lost = 7, returned = 8,
  deferred = 9, suspended = 10, lost_workers = 20,
}
local WENT_ON = { crashed = 'crashed', lost = 'lost', ['handed back'] = 'returned', deferred = 'deferred' }
local TOLD = { retried = true, crashed = true, lost = true }
local minute = math.floor(now / MINUTE_S)
local events = {}

-- --- counts ------------------------------------------------------------------------------
-- Counts jobs that did not run.
function past.count(word, queue, task)
  tally.count(CODES[word], queue, task)
end

function past.ran(word, queue, task, started_at)
  return tally.ran(CODES[word], queue, task, started_at)
end

-- Counts what a worker saw some seconds ago.
function past.report(code, name, count, ago_s)
  tally.add(math.floor((now - math.max(0, ago_s)) / MINUTE_S), code .. '|-1||' .. name, count)
end

-- --- events ------------------------------------------------------------------------------
function past.tell(kind, name, reason)
  events[#events + 1] = pack(kind, now, name or '', reason or '', '', '', '', '', 0, 0, nil)
end

local function tell_of(kind, job, name, reason, us)
  local rows = use('rows')
  local workflow = rows.has(job.flags, rows.MEMBER) and call('HGET', NS .. 'w:' .. job.n, 'workflow')
  events[#events + 1] = pack(
    kind, now, name, reason, job.id, job.task, job.queue, workflow or '', job.attempt, job.fence, us and us / 1000000
  )
end

-- --- what happens to jobs ----------------------------------------------------------------
function past.task_of(job)
  if not job.task then
    -- A claim of format 2 does not say it.
    local row = use('rows').of(job.n)
    job.task = row and row.task or ''
  end
  return job.task
end

-- A job is handed out to a session: told of one that is watched.
function past.started(n, record, session_id)
  local row = use('rows').parse(n, record)
  row.attempt, row.fence = 1 + row.errors + row.crashes + row.lost, row.fence + 1
  tell_of('job.started', row, session_id, '')
end

-- The end of a job that ran long, or is watched.
function past.succeeded(n, session, us, fence, flags, attempt, id, queue, task)
  local job = { n = n, flags = flags, id = id, queue = queue, task = task, attempt = attempt, fence = fence }
  tell_of('job.succeeded', job, session, '', us)
end

-- `job` as `endings.finish` takes it.
function past.ended(job, state, reason)
  local rows, us = use('rows'), nil
  if job.is_running then
    us = past.ran(state, job.queue, past.task_of(job), job.started_at)
  else
    past.count(state, job.queue, job.task)
  end
  local is_told = true
  if state == 'succeeded' then
    is_told = rows.has(job.flags, rows.WATCHED) or (us and us >= LONG_RUN_US)
  elseif state == 'cancelled' and rows.has(job.flags, rows.NODE) then
    is_told = (call('HGET', NS .. 'w:' .. job.n, 'cause') or '') == ''
  end
  if is_told then tell_of('job.' .. state, job, job.is_running and job.session or '', reason, us) end
end

-- An attempt has ended after which its job goes on.
function past.went_on(job, outcome, reason)
  local word = WENT_ON[outcome] or 'retried'
  local us = past.ran(word, job.queue, past.task_of(job), job.started_at)
  if TOLD[word] then tell_of('job.' .. word, job, job.session, reason, us) end
end

function past.suspended(job)
  past.ran('suspended', job.queue, past.task_of(job), job.started_at)
end

function past.revived(row)
  tell_of('job.revived', row, '', row.reason)
end

-- --- writing and forgetting --------------------------------------------------------------
function past.write()
  tally.write()
  if #events == 0 then return end
  local n = call('HINCRBY', NS .. 'meta', 'events', #events) - #events
  for i, event in ipairs(events) do
    call('XADD', NS .. 'history', string.format('%.0f-0', n + i), 'e', event)
  end
  events = {}
end

-- The number of the last event.
function past.newest()
  return call('HGET', NS .. 'meta', 'events') or '0'
end

local KEEP_MINUTES, KEEP_S, MOST_EVENTS = 43200, 2592000, 1000000

local function is_old(entry, newest)
  local n = tonumber(string.match(entry[1], '^%d+'))
  local _, _, at = limit(entry[2][2], 2)
  return n <= newest - MOST_EVENTS or at <= now - KEEP_S
end

-- Drops what is past its retention, some of it; returns whether there is more.
function past.forget(most)
  local old = call('ZRANGEBYSCORE', NS .. 'rolls', '-inf', minute - KEEP_MINUTES, 'LIMIT', 0, most)
  for _, at in ipairs(old) do
    call('UNLINK', NS .. 'roll:' .. at)
    call('ZREM', NS .. 'rolls', at)
  end
  local newest, dropped = tonumber(past.newest()), {}
  local first = call('XRANGE', NS .. 'history', '-', '+', 'COUNT', 1)[1]
  if first and is_old(first, newest) then
    for _, entry in ipairs(call('XRANGE', NS .. 'history', '-', '+', 'COUNT', most)) do
      if not is_old(entry, newest) then break end
      dropped[#dropped + 1] = entry[1]
    end
    many('XDEL', NS .. 'history', dropped)
  end
  return #old == most or #dropped == most
end

return past
