-- What an end, a publication or a revival sets in motion: tasks, carried out in bounded pages. A call carries out
-- so many at once; the rest is written down as intents, and carried out by later calls and by sweeps. The cursor
-- of an intent moves with what was done, so each step is done once. A task waits behind the intents of its job.
--
-- A task: kind (see the part `acts`), n (or '@' and a workflow), cursor, cause, reason. `intents` and
-- `late_intents`, which come when no others are left, list tasks; `intents_of` counts them by n.
local MOST = 256
local agenda = { left = MOST }
local queue, late = {}, {}
local first, first_late = 1, 1
local has_stored
local is_running = false

function agenda.push(task)
  queue[#queue + 1] = task
end

-- Adds a task that is begun alone, when nothing else is left.
function agenda.push_late(task)
  late[#late + 1] = task
end

-- Whether intents of a job are left, behind which its tasks wait.
function agenda.is_behind(n)
  if has_stored == nil then has_stored = call('EXISTS', NS .. 'intents_of') == 1 end
  return has_stored and call('HEXISTS', NS .. 'intents_of', n) == 1
end

local function store(list, tasks)
  if #tasks == 0 then return end
  local packed = {}
  for i, task in ipairs(tasks) do
    packed[i] = pack(task.kind, task.n, task.cursor, task.cause, task.reason)
    call('HINCRBY', NS .. 'intents_of', task.n, 1)
  end
  many('RPUSH', NS .. list, packed)
  call('ZADD', NS .. 'due', 0, use('moving').INTENTS)
  has_stored = true
end

local function perform(task)
  return use('acts')[task.kind](task)
end

-- The next task, and whether it is late; none of those while `waits`.
local function next_task(waits)
  if first <= #queue then
    first = first + 1
    return queue[first - 1], false
  end
  if first_late <= #late and not waits then
    first_late = first_late + 1
    return late[first_late - 1], true
  end
end

local function put_down(put_off)
  for i = first, #queue do put_off[#put_off + 1] = queue[i] end
  local rest = {}
  for i = first_late, #late do rest[#rest + 1] = late[i] end
  queue, late, first, first_late = {}, {}, 1, 1
  store('intents', put_off)
  store('late_intents', rest)
end

-- Carries out what there is, and writes down what is too much.
local function run(in_time_only)
  if is_running or (#queue == 0 and #late == 0) then return end
  is_running = true
  local put_off = {}
  while agenda.left > 0 do
    -- What is late waits for what was put off as well.
    local task, is_late = next_task(in_time_only or #put_off > 0)
    if not task then break end
    if not is_late and agenda.is_behind(task.n) then
      put_off[#put_off + 1] = task
    else
      local rest = perform(task)
      if rest then
        first = first - 1
        if first < 1 then
          table.insert(queue, 1, rest)
          first = 1
        else
          queue[first] = rest
        end
      end
    end
  end
  put_down(put_off)
  is_running = false
end

function agenda.run()
  run(false)
end

local function stored()
  for _, list in ipairs({ 'intents', 'late_intents' }) do
    local packed = call('LINDEX', NS .. list, 0)
    if packed then
      local _, kind, n, cursor, cause, reason = limit(packed, 5)
      return list, { kind = kind, n = n, cursor = cursor, cause = cause, reason = reason }
    end
  end
end

-- Carries out some of what was written down, the oldest first.
function agenda.carry_on(most)
  local before = agenda.left
  agenda.left = math.min(most or MOST, MOST)
  while agenda.left > 0 do
    local list, task = stored()
    if not list then
      call('ZREM', NS .. 'due', use('moving').INTENTS)
      break
    end
    local rest = perform(task)
    -- A page that touches nothing counts as well: no loop here is without a bound.
    agenda.left = agenda.left - 1
    if rest then
      call('LSET', NS .. list, 0, pack(rest.kind, rest.n, rest.cursor, rest.cause, rest.reason))
    else
      call('LPOP', NS .. list)
      if call('HINCRBY', NS .. 'intents_of', task.n, -1) <= 0 then call('HDEL', NS .. 'intents_of', task.n) end
    end
    -- Its late ones come after all that is written down, not after this page of it.
    run(true)
    if #queue + #late > 0 then put_down({}) end
  end
  agenda.left = before
  use('endings').flush()
end

function agenda.has_intents()
  return call('EXISTS', NS .. 'intents', NS .. 'late_intents') > 0
end

return agenda
