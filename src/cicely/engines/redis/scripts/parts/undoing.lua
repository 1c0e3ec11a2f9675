-- Brings ended jobs back: what was cancelled because of a revived job waits again, and so on.
local graph, rows, agenda, counts = use('graph'), use('rows'), use('agenda'), use('counts')
local undoing = {}
local LOOK_AGAIN_S = 1800

-- The end becomes one of the job's attempts, with a receipt for whoever repeats its outcome.
local function keep_end(n, ended)
  local off, _, ended_at, started_at, session, request, fence, attempt, _, _, _, _, outcome = limit(ended, 12)
  local after = limit(ended, 2, off)
  if session ~= '' then
    -- The error is the first of the two last values: its bytes are copied as they are.
    use('decisions').keep_attempt(
      n, attempt, fence, outcome, started_at, ended_at, session, sub(ended, after + 1, (rows.read_bin(ended, after)))
    )
  end
  if request ~= '' then
    use('receipts').keep(request, n, fence % rows.FENCES, { outcome = outcome, session = session, since = now })
  end
  return fence, attempt, started_at
end

function undoing.has_holder(row)
  return row.unique ~= '' and call('HEXISTS', NS .. 'unique', row.unique) == 1
end

-- Makes an ended job live again; where it stands then is its caller's to say.
function undoing.bring_back(row, ended, reason)
  local n = row.n
  local _, state = limit(ended, 1)
  row.fence, row.attempt, row.started_at = keep_end(n, ended)
  row.errors, row.crashes, row.lost = 0, 0, 0
  row.reason, row.shuns = reason, ''
  row.expires_at, row.due_at = nil, nil
  call('SET', NS .. 'j:' .. n, rows.record(row))
  call('UNLINK', NS .. 'd:' .. n, NS .. 'r:' .. n)
  call('HDEL', NS .. 'l:' .. n, 'error')
  call('ZREM', NS .. 'ended:' .. state, n)
  if row.unique ~= '' then call('HSET', NS .. 'unique', row.unique, row.id) end
  use('endings').ends[n] = nil
  counts.add(row.queue, state, -1)
  if rows.has(row.flags, rows.NODE) then
    graph.set_cause(row, '')
    call('HDEL', NS .. 'w:' .. n, 'passes')
  end
  local workflow = rows.has(row.flags, rows.MEMBER) and call('HGET', NS .. 'w:' .. n, 'workflow')
  if workflow then
    use('workflows').look_again(workflow, now + LOOK_AGAIN_S, '0', '0')
    use('reservations').comes_back(workflow)
  end
end

-- Brings back a job that ended because of another, or after it.
local function wait_again(row, ended)
  undoing.bring_back(row, ended, 'revived')
  call('HSET', NS .. 'w:' .. row.n, 'waits', '1')
  counts.add(row.queue, 'waiting', 1)
end

local function judge_late(n)
  agenda.push_late({ kind = 'judge', n = n, cursor = '0', cause = '', reason = '' })
end

local function is_back(n, cause)
  agenda.push({ kind = 'undo', n = n, cursor = '0', cause = cause, reason = '' })
  judge_late(n)
end

-- Lets a revived job run at once, whatever delay it asked for.
local function make_ready(row)
  row.rank = row.base + math.floor(now * 1000000)
  call('SET', NS .. 'j:' .. row.n, rows.record(row))
  use('ready').add(row)
  counts.add(row.queue, 'ready', 1)
end

-- Runs an ended job again; what was cancelled because of it, or ran after it, waits for it.
function undoing.revive(row, ended, reason)
  undoing.bring_back(row, ended, reason)
  local n, has_children = row.n, rows.has(row.flags, rows.CHILDREN)
  local pending, held, joins = unpack(
    rows.has(row.flags, rows.NODE) and call('HMGET', NS .. 'w:' .. n, 'pending', 'held', 'joins') or {}
  )
  -- What is brought back because of those behind it may come before it.
  if (pending or '0') ~= '0' or held == '1' or (has_children and joins) then
    call('HSET', NS .. 'w:' .. n, 'waits', '1')
    counts.add(row.queue, 'waiting', 1)
    agenda.push_late({ kind = 'stand_again', n = n, cursor = '0', cause = '', reason = '' })
  else
    make_ready(row)
  end
  if has_children then agenda.push({ kind = 'undo', n = n, cursor = '0', cause = row.id, reason = '' }) end
end

-- Lets a revived job run, all being back, unless it waits for one that is back as well.
function undoing.stand_again(n)
  local row = rows.of(n)
  if not row or not row.waits then return end
  local pending, held = unpack(call('HMGET', NS .. 'w:' .. n, 'pending', 'held'))
  if (pending or '0') ~= '0' or held == '1' then return end
  graph.stop_waiting(n)
  counts.add(row.queue, 'waiting', -1)
  make_ready(row)
end

-- Whether a job that ended after its parent's end is to do so anew.
local function runs_again(row, state, traits)
  if not state or graph.rule_of(traits) == 'success' then return false end
  if state == 'succeeded' and graph.is_call(traits) then return false end
  return not undoing.has_holder(row)
end

local function rewrite_reason(n, ended, reason)
  local before = limit(ended, 10)
  local after = limit(ended, 1, before)
  call('SET', NS .. 'd:' .. n, sub(ended, 1, before) .. pack(reason) .. sub(ended, after + 1))
end

-- Brings back a job that was cancelled because of its edges, unless others of them are broken.
local function undo_cancellation(n, cause)
  local row, ended = rows.of(n), call('GET', NS .. 'd:' .. n)
  if not ended then return end
  local parent, traits = graph.first_broken(n, true)
  if not parent then
    if not undoing.has_holder(row) then
      wait_again(row, ended)
      is_back(n, cause)
    end
    return
  end
  local origin, fate = graph.cause_of(parent), graph.fate_of(parent) or 'failure'
  graph.set_cause(row, origin)
  rewrite_reason(n, ended, graph.reason_of(traits, fate, origin))
end

local function undo_one(parent, child, cause)
  local known = call('ZSCORE', NS .. 'in:' .. child, parent)
  local row = known and known % 256 >= 64 and rows.of(child)
  if not row then return end
  local ended, traits, state = call('GET', NS .. 'd:' .. child), known % 64, nil
  if ended then state = select(2, limit(ended, 1)) end
  if row.waits and row.fence == 0 then
    graph.reopen(parent, child)
  elseif state == 'cancelled' and (call('HGET', NS .. 'w:' .. child, 'cause') or '') ~= '' then
    graph.reopen(parent, child)
    if graph.cancels_siblings(traits) then
      local rest = use('acts').take_along({ kind = 'take_along', n = child, cursor = '0', cause = cause, reason = '' })
      if rest then agenda.push(rest) end
    end
    undo_cancellation(child, cause)
  elseif runs_again(row, state, traits) then
    graph.reopen(parent, child)
    wait_again(row, ended)
    if state == 'succeeded' then
      judge_late(child)
    else
      is_back(child, cause)
    end
  end
end

-- Makes the edges out of a job that is back undecided again, a page of them.
function undoing.undo(task, links)
  use('endings').flush()
  for i = 1, #links, 2 do
    if agenda.left <= 0 then return task end
    agenda.left = agenda.left - 1
    task.cursor = links[i + 1]
    undo_one(task.n, links[i], task.cause)
  end
  return agenda.left <= 0 and #links > 0 and task or nil
end

-- Brings back the jobs that were cancelled for one cause, a page of them.
function undoing.take_along(task, found)
  -- None were looked for where nothing more may be touched.
  if agenda.left <= 0 then return task end
  for i = 1, #found, 2 do
    if agenda.left <= 0 then return task end
    agenda.left = agenda.left - 1
    task.cursor = found[i + 1]
    local n = found[i]
    local row, ended = rows.of(n), call('GET', NS .. 'd:' .. n)
    local is_cancelled = row and ended and select(2, limit(ended, 1)) == 'cancelled'
    if is_cancelled and not graph.first_broken(n, true) and not undoing.has_holder(row) then
      wait_again(row, ended)
      is_back(n, task.cause)
    end
  end
  return agenda.left <= 0 and #found > 0 and task or nil
end

return undoing
