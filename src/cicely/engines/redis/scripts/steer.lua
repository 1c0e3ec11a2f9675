-- steer: cancels, revives or discards jobs on a person's behalf.
-- Keys: ids, those of a job that ends, runs again or is deleted, and session:<id> of its worker.
-- Work: the jobs that are named.
-- ARGV: now, move, reason, ids...
-- Returns the ids that were moved.
local reason = ARGV[3]
local rows, counts = use('rows'), use('counts')
local moves, called = {}, {}

-- A running job stays so until its outcome comes; the first of several cancellations gives the reason.
local function mark(n, run)
  local job = rows.claimed(n, run)
  if job.why == '' then
    job.why = reason
    rows.rewrite_claim(run, job)
  end
  local worker = call('HGET', NS .. 'session:' .. job.session, 'worker')
  if worker then called[worker] = true end
  return true
end

function moves.cancel(n, run, ended)
  if ended then return false end
  if run then return mark(n, run) end
  local row = rows.of(n)
  if not row then return false end
  use('endings').leave_waiting(row)
  use('endings').finish(row, 'cancelled', reason, '', '', '')
  use('endings').write()
  return true
end

-- The end becomes one of the job's attempts, with a receipt for whoever repeats its outcome.
local function keep_end(n, ended)
  local off, _, ended_at, started_at, session, request, fence, attempt, _, _, _, _, outcome = limit(ended, 12)
  local after = limit(ended, 2, off)
  if session ~= '' then
    -- The error is the first of the two last values: its bytes are copied as they are.
    local error = sub(ended, after + 1)
    local kind = string.byte(error)
    local head, size = 2, string.byte(error, 2)
    if kind == 197 then head, size = 3, struct.unpack('>I2', error, 2) end
    if kind == 198 then head, size = 5, struct.unpack('>I4', error, 2) end
    use('decisions').keep_attempt(
      n, attempt, fence, outcome, started_at, ended_at, session, sub(error, 1, head + size)
    )
  end
  if request ~= '' then
    use('receipts').keep(request, n, fence % rows.FENCES, { outcome = outcome, session = session, since = now })
  end
  return fence, attempt, started_at
end

function moves.revive(n, _, ended)
  if not ended then return false end
  local _, state = limit(ended, 1)
  local row = rows.of(n)
  if state == 'succeeded' or not row then return false end
  if row.unique ~= '' and call('HEXISTS', NS .. 'unique', row.unique) == 1 then return false end
  row.fence, row.attempt, row.started_at = keep_end(n, ended)
  row.errors, row.crashes, row.lost = 0, 0, 0
  row.rank, row.reason = row.base + math.floor(now * 1000000), reason
  row.expires_at, row.due_at = nil, nil
  call('SET', NS .. 'j:' .. n, rows.record(row))
  call('UNLINK', NS .. 'd:' .. n, NS .. 'r:' .. n)
  call('HDEL', NS .. 'l:' .. n, 'error')
  call('ZREM', NS .. 'ended:' .. state, n)
  if row.unique ~= '' then call('HSET', NS .. 'unique', row.unique, row.id) end
  use('ready').add(n, row.queue, row.kind, row.task, row.lane, row.rank)
  counts.move(row.queue, state, 'ready', 1)
  use('ready').write()
  counts.write()
  return true
end

function moves.discard(n, _, ended)
  local is_gone = ended and use('burying').bury(n, false)
  counts.write()
  return is_gone
end

local replies, seen = {}, {}
for i = 4, #ARGV do
  local id = ARGV[i]
  local n = not seen[id] and call('HGET', NS .. 'ids', id)
  seen[id] = true
  if n and n ~= 'tomb' and call('EXISTS', NS .. 'j:' .. n) == 1 then
    if moves[ARGV[2]](n, call('HGET', NS .. 'runs', n), call('GET', NS .. 'd:' .. n)) then
      replies[#replies + 1] = id
    end
  end
end
for worker in pairs(called) do use('rings').session(worker) end
ring()
return replies
