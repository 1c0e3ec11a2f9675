-- Wakes those who wait. Each waiter is subscribed to a channel, `ear:<ear>`; publishing says at once
-- whether anybody heard it, so a dead waiter costs one step and is forgotten.
-- `armed` orders the sessions that wait for work by their numbers; `await` names the ears per job id.
local rings = {}
local SOON_S = 2
local CANDIDATES = 32
local KINDS_LOOKED_AT = 64
local SOON_LOOKED_AT = 16

-- Supervisors to be woken, because a claim of theirs was asked to end.
local called = {}

local function publish(ear)
  return call('PUBLISH', NS .. 'ear:' .. ear, '1') > 0
end

function rings.session(id)
  local key = NS .. 'session:' .. id
  local known = call('HMGET', key, 'armed', 'ear')
  if known[1] ~= '1' then return false end
  call('HSET', key, 'armed', '0')
  call('ZREM', NS .. 'armed', id)
  return publish(known[2])
end

function rings.call(worker)
  called[worker] = true
end

function rings.answer_calls()
  for worker in pairs(called) do rings.session(worker) end
  called = {}
end

function rings.results(ids)
  local heard = {}
  for i, ears in ipairs(read_all(NS .. 'await', ids)) do
    if ears then
      for ear in string.gmatch(ears, '%S+') do publish(ear) end
      heard[#heard + 1] = ids[i]
    end
  end
  many('HDEL', NS .. 'await', heard)
end

-- The classes that may have jobs which pass soon, where gates are open by then.
local function add_gated(work, paused)
  local gates = use('gates')
  for _, name in ipairs(call('ZRANGE', NS .. 'classes', 0, KINDS_LOOKED_AT - 1)) do
    local class = gates.class(name)
    if not paused[class.queue] and #gates.open(class, now + SOON_S, 0, 1) > 0 then
      work[#work + 1] = { class.queue, class.task, class }
    end
  end
end

local function due_soon(row)
  if not use('rows').has(row.flags, use('rows').GATED) then return { row.queue, row.task } end
  local stream = use('gates').stream_of(row)
  return use('gates').opens_at(stream, row.n) <= now + SOON_S and { row.queue, row.task, stream.class }
end

-- The queues and tasks of what is ready in open queues, or due soon: {queue, task, class} per kind of work, the
-- class where it is not plain.
local function work_at_hand()
  local paused = {}
  for _, queue in ipairs(call('SMEMBERS', NS .. 'paused')) do paused[queue] = true end
  local work = {}
  for _, n in ipairs(call('ZRANGEBYSCORE', NS .. 'due', '-inf', now + SOON_S, 'LIMIT', 0, SOON_LOOKED_AT)) do
    local row = use('rows').of(n)
    if row and not paused[row.queue] then work[#work + 1] = due_soon(row) or nil end
  end
  for _, name in ipairs(call('ZRANGE', NS .. 'work', 0, KINDS_LOOKED_AT - 1)) do
    local queue, task = string.match(name, '^(.-)|%a+:(.*)$')
    if not paused[queue] then work[#work + 1] = { queue, task } end
  end
  if call('EXISTS', NS .. 'classes') == 1 then add_gated(work, paused) end
  return work
end

local function is_for(id, work)
  local abilities = use('abilities')
  local session = abilities.session(id)
  for _, at in ipairs(work) do
    if session and abilities.serves(session, at[1]) and abilities.runs(session, at[2]) then
      local class, resources = at[3], at[3] and use('resources')
      if not class or (resources.suits(class, session) and resources.has_room(class, session)) then return true end
    end
  end
  return false
end

-- Wakes one waiting session that can take what is ready; `claimer` has just looked, and is passed over.
-- Where it took nothing, only those behind it are woken: so a job that nobody can take now wakes each
-- session once, and not for ever.
function rings.idle(claimer, took)
  local least = (claimer and not took) and '(' .. claimer.number or '-inf'
  local ids = call('ZRANGEBYSCORE', NS .. 'armed', least, '+inf', 'LIMIT', 0, CANDIDATES)
  if #ids == 0 or (claimer and #ids == 1 and ids[1] == claimer.id) then return end
  local work = work_at_hand()
  if #work == 0 then return end
  for _, id in ipairs(ids) do
    if not (claimer and id == claimer.id) and is_for(id, work) and rings.session(id) then return end
  end
end

return rings
