-- Jobs that come after others, as they are stored.
--
-- The node of a job, `w:<n>`, has what a plain job needs not. waits: it is waiting; held: its workflow is to be
-- published first; pending, broken, joins: how many edges into it are undecided, did not hold, and all (absent:
-- none), exact while it is final, too; passes: it was cancelled and counts as failed; cause: because of which job; workflow,
-- group; event, key, step: what it waits for; start: delay_s, due_at, expires_s and expires_at.
--
-- An edge stands in `in:<child>` and `out:<parent>` under one score: its number * 256 + its traits, and into
-- the child + 64 where it held, + 128 where it broke. `broken:<child>` repeats those that broke.
local rows, rules, endings = use('rows'), use('rules'), use('endings')
local HELD, BROKEN = 64, 128
local PAGE = 100
-- `has_marked`: a running job was asked to end in this call.
local graph = { has_marked = false }

function graph.rule_of(traits)
  return rules.rules[traits % 4 + 1]
end

function graph.is_call(traits)
  return rules.roles[math.floor(traits / 4) % 4 + 1] == 'call'
end

function graph.waits_for_all(traits)
  return traits % 32 >= 16
end

function graph.cancels_siblings(traits)
  return traits % 64 >= 32
end

-- --- ends --------------------------------------------------------------------------------
-- How the end of a job counts; nil while it has none. One that is gone counts as it was remembered.
function graph.fate_of(n)
  local known = endings.ends[n]
  if known then return known.fate end
  local ended = call('GET', NS .. 'd:' .. n)
  if ended then
    if call('HGET', NS .. 'w:' .. n, 'passes') == '1' then return 'failure' end
    local _, state = limit(ended, 1)
    return rules.fate[state]
  end
  if call('EXISTS', NS .. 'j:' .. n) == 1 then return nil end
  local id = call('HGET', NS .. 'gone', n)
  local tomb = id and call('HGET', NS .. 'tombs', id)
  if not tomb then return 'failure' end
  local _, _, _, _, state = limit(tomb, 4)
  return rules.fate[state]
end

function graph.id_of(n)
  if endings.ends[n] then return endings.ends[n].id end
  local row = rows.of(n)
  return row and row.id or call('HGET', NS .. 'gone', n) or ''
end

-- The job in which the end of a parent began.
function graph.cause_of(n)
  local cause = call('HGET', NS .. 'w:' .. n, 'cause')
  return cause and cause ~= '' and cause or graph.id_of(n)
end

function graph.is_live(n)
  return not endings.ends[n] and call('EXISTS', NS .. 'j:' .. n) == 1 and call('EXISTS', NS .. 'd:' .. n) == 0
end

-- --- nodes -------------------------------------------------------------------------------
-- The number of a job that is gone or was never known, so that edges can name it.
function graph.number_of_gone(id)
  local n = call('HGET', NS .. 'gone_ids', id)
  if n then return n end
  n = string.format('%012d', call('HINCRBY', NS .. 'meta', 'jobs', 1))
  graph.keep_gone(n, id)
  return n
end

function graph.keep_gone(n, id)
  call('HSET', NS .. 'gone', n, id)
  call('HSET', NS .. 'gone_ids', id, n)
end

function graph.forget_gone(n)
  local id = call('HGET', NS .. 'gone', n)
  if not id then return end
  call('HDEL', NS .. 'gone', n)
  if call('HGET', NS .. 'gone_ids', id) == n then call('HDEL', NS .. 'gone_ids', id) end
end

function graph.set_cause(row, cause)
  local key = NS .. 'w:' .. row.n
  if rows.has(row.flags, rows.NODE) then
    local before = call('HGET', key, 'cause')
    if before then call('ZREM', NS .. 'because:' .. before, row.n) end
  end
  if cause == '' then
    if rows.has(row.flags, rows.NODE) then call('HDEL', key, 'cause') end
    return
  end
  if not rows.has(row.flags, rows.NODE) then
    rows.flag(row.n, rows.NODE)
    row.flags = row.flags + rows.NODE
  end
  call('HSET', key, 'cause', cause)
  call('ZADD', NS .. 'because:' .. cause, row.n, row.n)
end

-- The list of those that wait for an event.
function graph.waiters(event, key)
  return NS .. 'waiters:' .. #event .. ':' .. event .. ':' .. key
end

function graph.stop_waiting(n)
  local key = NS .. 'w:' .. n
  local event, of = unpack(call('HMGET', key, 'event', 'key'))
  if event then call('ZREM', graph.waiters(event, of), n) end
  call('HDEL', key, 'waits', 'event', 'key', 'step')
end

-- Makes a job that waits no longer ready, or scheduled where it is not due before its first run.
function graph.let_go(row)
  local n, due_at = row.n, now
  if row.due_at then call('ZREM', NS .. 'due', n) end
  graph.stop_waiting(n)
  row.waits = false
  local start = row.fence == 0 and call('HGET', NS .. 'w:' .. n, 'start')
  if start then
    local _, delay_s, wanted_at, expires_s, expires_at = limit(start, 4)
    row.expires_at = expires_s and now + expires_s or expires_at
    due_at = wanted_at or now + delay_s
  end
  if row.expires_at then call('ZADD', NS .. 'expiring', row.expires_at, n) end
  graph.place(row, due_at)
end

-- Gives a job that has stopped waiting its place among the ready or the scheduled ones.
function graph.place(row, due_at)
  local is_due = due_at <= now
  row.rank = row.base + math.floor((is_due and now or due_at) * 1000000)
  row.due_at = not is_due and due_at or nil
  if is_due then
    use('ready').add(row)
  else
    call('ZADD', NS .. 'due', due_at, row.n)
  end
  use('counts').move(row.queue, 'waiting', is_due and 'ready' or 'scheduled', 1)
  call('SET', NS .. 'j:' .. row.n, rows.record(row))
end

-- Keeps what a job that was no part of a workflow had asked for of its start.
local function keep_start(n)
  local row = rows.of(n)
  if not row or row.flags % 32 > 1 or row.fence > 0 or not (row.due_at or row.expires_at) then return end
  local delay_s = row.due_at and row.due_at - row.created_at or 0
  local expires_s = row.expires_at and row.expires_at - row.created_at
  call('HSET', NS .. 'w:' .. n, 'start', pack(delay_s, nil, expires_s or nil, nil))
  rows.flag(n, rows.NODE)
end

-- --- edges -------------------------------------------------------------------------------
-- Keeps an edge into a waiting job, decided where its parent has ended. One that is known changes nothing.
function graph.link(parent, child, traits, number)
  if call('ZSCORE', NS .. 'in:' .. child, parent) then return end
  number = number or call('HINCRBY', NS .. 'meta', 'edges', 1)
  local score, key = number * 256 + traits, NS .. 'w:' .. child
  local fate = graph.fate_of(parent)
  call('ZADD', NS .. 'out:' .. parent, score, child)
  call('HINCRBY', key, 'joins', 1)
  if not fate then keep_start(parent) end
  rows.flag(parent, rows.CHILDREN)
  if not fate then
    call('HINCRBY', key, 'pending', 1)
    call('ZADD', NS .. 'in:' .. child, score, parent)
  elseif rules.holds[graph.rule_of(traits) .. ' ' .. fate] then
    call('ZADD', NS .. 'in:' .. child, score + HELD, parent)
  else
    call('HINCRBY', key, 'broken', 1)
    call('ZADD', NS .. 'in:' .. child, score + BROKEN, parent)
    call('ZADD', NS .. 'broken:' .. child, score, parent)
  end
end

-- Decides one edge out of an ended job, and what becomes of the job behind it.
function graph.decide(parent, child, score, fate)
  local traits, key = score % 64, NS .. 'w:' .. child
  local known = call('ZSCORE', NS .. 'in:' .. child, parent)
  if not known or tonumber(known) ~= score then return end
  local pending = call('HINCRBY', key, 'pending', -1)
  if rules.holds[graph.rule_of(traits) .. ' ' .. fate] then
    call('ZADD', NS .. 'in:' .. child, score + HELD, parent)
  else
    call('HINCRBY', key, 'broken', 1)
    call('ZADD', NS .. 'in:' .. child, score + BROKEN, parent)
    call('ZADD', NS .. 'broken:' .. child, score, parent)
  end
  graph.judge(child, pending)
end

-- Makes an edge undecided again; returns whether it was decided, and its traits.
function graph.reopen(parent, child)
  local key, known = NS .. 'w:' .. child, tonumber(call('ZSCORE', NS .. 'in:' .. child, parent))
  local is_broken = known % 256 >= BROKEN
  call('ZADD', NS .. 'in:' .. child, known - (is_broken and BROKEN or HELD), parent)
  call('HINCRBY', key, 'pending', 1)
  if is_broken then
    call('HINCRBY', key, 'broken', -1)
    call('ZREM', NS .. 'broken:' .. child, parent)
  end
end

-- The first broken edge into a job that cancels it: its parent and its traits.
function graph.first_broken(n, is_free)
  local from = 0
  while true do
    local page = call('ZRANGE', NS .. 'broken:' .. n, from, from + PAGE - 1, 'WITHSCORES')
    for i = 1, #page, 2 do
      local traits = page[i + 1] % 64
      if is_free or not graph.waits_for_all(traits) then return page[i], traits end
    end
    if #page < 2 * PAGE then return nil end
    from = from + PAGE
  end
end

-- Lets a waiting job go, or cancels it, where its edges say so. Returns whether it waits on.
function graph.judge(n, pending)
  local waits, held, broken, event, undecided = unpack(
    call('HMGET', NS .. 'w:' .. n, 'waits', 'held', 'broken', 'event', 'pending')
  )
  if waits ~= '1' then return false end
  local is_free = tonumber(pending or undecided or 0) == 0 and held ~= '1'
  if broken and broken ~= '0' then
    local parent, traits = graph.first_broken(n, is_free)
    if parent then
      graph.cancel_behind(n, parent, traits)
      return false
    end
  end
  if not is_free or event then return true end
  local row = rows.of(n)
  if row then graph.let_go(row) end
  return false
end

-- --- cancelling --------------------------------------------------------------------------
function graph.reason_of(traits, fate, cause)
  local before, after = unpack(rules.reasons[graph.rule_of(traits) .. ' ' .. fate])
  return before .. cause .. after
end

-- Cancels a waiting job whose edge broke.
function graph.cancel_behind(n, parent, traits)
  local row = rows.of(n)
  if not row then return end
  local cause, fate = graph.cause_of(parent), graph.fate_of(parent) or 'failure'
  local reason = graph.reason_of(traits, fate, cause)
  local inherited = rules.inherited[graph.rule_of(traits) .. ' ' .. fate]
  graph.set_cause(row, cause)
  if inherited == 'failure' then call('HSET', NS .. 'w:' .. n, 'passes', '1') end
  endings.leave_waiting(row)
  endings.finish(row, 'cancelled', reason, '', '', '', inherited)
  if graph.cancels_siblings(traits) then
    local task = { kind = 'cancel_before', n = n, cursor = '0', cause = cause, reason = reason }
    local rest = use('acts').cancel_before(task)
    if rest then use('agenda').push(rest) end
  end
end

-- Cancels a live job; one that runs is asked to end. The first of several cancellations gives the reason.
function graph.cancel(n, run, reason, cause)
  if not run then
    local row = rows.of(n)
    if not row then return false end
    graph.set_cause(row, cause)
    endings.leave_waiting(row)
    endings.finish(row, 'cancelled', reason, '', '', '')
    return true
  end
  local job = rows.claimed(n, run)
  graph.set_cause(job, cause)
  graph.has_marked = true
  if job.why == '' then
    job.why = reason
    rows.rewrite_claim(call('HGET', NS .. 'runs', n), job)
  end
  local worker = call('HGET', NS .. 'session:' .. job.session, 'worker')
  if worker then use('rings').call(worker) end
  return true
end

return graph
