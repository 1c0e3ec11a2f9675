-- Jobs that let go of their slot: what they wait for, their steps, and the events that they take.
--
-- `s:<n>` has the values of a job's steps by their keys, `o:<n>` the keys in their order. `mail:<event>` lists the
-- events that nobody took yet, each as sent_at and its value; `sent` has the ids of all, by sent_at.
local rows, endings, graph, counts = use('rows'), use('endings'), use('graph'), use('counts')
local suspending = {}
local KEEP_EVENT_S = 30 * 86400

-- `steps`: keys and values, in turns. The first value of a key stays.
function suspending.record_steps(n, steps)
  for i = 1, #steps, 2 do
    if call('HSETNX', NS .. 's:' .. n, steps[i], steps[i + 1]) == 1 then call('RPUSH', NS .. 'o:' .. n, steps[i]) end
  end
  if #steps > 0 then rows.flag(n, rows.STEPS) end
end

local function mail(event, key)
  return NS .. 'mail:' .. #event .. ':' .. event .. ':' .. key
end

-- Drops the events at the head of a list whose time is over.
local function drop_old(list)
  while true do
    local head = call('LINDEX', list, 0)
    if not head or select(2, limit(head, 1)) + KEEP_EVENT_S > now then return head end
    call('LPOP', list)
  end
end

-- Records the oldest event that fits as a step of the job; false where there is none.
local function take_event(n, wanted)
  local list = mail(wanted[1], wanted[2])
  local head = drop_old(list)
  if not head then return false end
  call('LPOP', list)
  suspending.record_steps(n, { wanted[3], select(3, limit(head, 2)) })
  return true
end

-- Begins the wait of a job whose edges do not keep it: for an event, a time, or for nothing.
local function wait(row, wanted, delay_s)
  local until_at = delay_s and now + delay_s
  if wanted and not take_event(row.n, wanted) then
    call('HSET', NS .. 'w:' .. row.n, 'event', wanted[1], 'key', wanted[2], 'step', wanted[3])
    call('ZADD', graph.waiters(wanted[1], wanted[2]), row.n, row.n)
    if until_at then
      row.due_at = until_at
      call('ZADD', NS .. 'due', until_at, row.n)
      call('SET', NS .. 'j:' .. row.n, rows.record(row))
    end
  elseif not wanted and until_at then
    graph.stop_waiting(row.n)
    row.rank = row.base + math.floor(until_at * 1000000)
    row.due_at = until_at
    call('ZADD', NS .. 'due', until_at, row.n)
    counts.move(row.queue, 'waiting', 'scheduled', 1)
    call('SET', NS .. 'j:' .. row.n, rows.record(row))
  else
    graph.let_go(row)
  end
end

-- `packed`: steps, what event is awaited or nil, edges as parent and traits in turns, the workflow that is published,
-- delay_s or nil.
function suspending.suspend(job, reason, packed)
  use('past').suspended(job)
  local n = job.n
  local row = rows.of(n)
  endings.flush()
  if not row then
    counts.add(job.queue, 'running', -1)
    return
  end
  local _, steps, wanted, edges, publishes, delay_s = limit(packed, 5)
  suspending.record_steps(n, steps)
  rows.flag(n, rows.NODE)
  row = rows.of(n)
  row.fence, row.attempt, row.started_at, row.reason = job.fence, job.attempt, job.started_at, reason
  row.expires_at, row.due_at, row.waits, row.shuns = nil, nil, true, ''
  call('HSET', NS .. 'w:' .. n, 'waits', '1')
  call('SET', NS .. 'j:' .. n, rows.record(row))
  counts.move(row.queue, 'running', 'waiting', 1)
  if publishes ~= '' then use('workflows').publish(publishes) end
  endings.flush()
  for i = 1, #edges, 2 do
    local parent = call('HGET', NS .. 'ids', edges[i])
    if not parent or parent == 'tomb' then parent = graph.number_of_gone(edges[i]) end
    graph.link(parent, n, edges[i + 1])
  end
  local pending, broken, held = unpack(call('HMGET', NS .. 'w:' .. n, 'pending', 'broken', 'held'))
  local is_free = (pending or '0') == '0' and held ~= '1'
  if broken and broken ~= '0' then
    graph.judge(n)
  elseif is_free then
    wait(rows.of(n), wanted, delay_s)
  end
  use('agenda').run()
end

-- Ends the wait for an event whose time is over: its step is empty.
function suspending.await_no_more(n)
  local step = call('HGET', NS .. 'w:' .. n, 'step')
  if step then suspending.record_steps(n, { step, '' }) end
  graph.stop_waiting(n)
end

-- Gives an event to the oldest job that waits for it, else keeps it; returns the job's id or ''.
function suspending.signal(id, event, key, value)
  if call('ZADD', NS .. 'sent', 'NX', now, id) == 0 then return '' end
  local n = call('ZRANGE', graph.waiters(event, key), 0, 0)[1]
  if not n then
    local list = mail(event, key)
    drop_old(list)
    call('RPUSH', list, pack(now, value))
    call('EXPIRE', list, KEEP_EVENT_S)
    return ''
  end
  suspending.record_steps(n, { call('HGET', NS .. 'w:' .. n, 'step'), value })
  local row = rows.of(n)
  graph.let_go(row)
  endings.write()
  return row.id
end

-- Drops the ids of events whose time is over.
function suspending.forget_events(batch)
  local ids = call('ZRANGEBYSCORE', NS .. 'sent', '-inf', now - KEEP_EVENT_S, 'LIMIT', 0, batch)
  many('ZREM', NS .. 'sent', ids)
end

return suspending
