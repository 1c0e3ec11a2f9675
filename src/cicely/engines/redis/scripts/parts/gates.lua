-- Ready jobs that are not plain: they have a lane, keys, resources or traits, or shun a worker.
--
-- Those that are alike in queue, kind, task, shape (resources and traits) and whom they shun are a class: it says whom
-- they suit. Those of a class that are alike in lane and keys are a stream, `gated:<stream>`: n -> rank. A stream stands at the gate of one of its keys ('' where it has none): in `turns:<key>|<class>`, by the clock
-- of its lane, as rank, n and its name. `gates:<class>` says when each of its gates opens: nothing before that can
-- pass there, so that nobody looks at what waits, whatever number. `openings` has what of these is to come.
-- `gate:<key>` names the classes with a gate at a key, `stands:<queue>|<lane>` the place of each stream,
-- `mixed` those that more than one thing may hold back. `queued` counts the ready jobs of a key.
local valves, lanes = use('valves'), use('lanes')
local gates = {}
local NEVER, DRAWS = valves.NEVER, '\1'
local HEAD = 29
local MOST_CLASSES = 1000
local streams, classes, touched, written, queued, lists = {}, {}, {}, {}, {}, {}

-- --- names -------------------------------------------------------------------------------
function gates.class(name)
  local class = classes[name]
  if not class then
    local queue, kind, task, shape, shuns = string.match(name, '^(.-)|(%a+):(.-)|(.-)|(.*)$')
    class = {
      name = name, queue = queue, kind = kind, task = task, shuns = shuns, wants = {}, traits = {}, at = {}, turns = {},
    }
    -- See the part `reservations`.
    if sub(shuns, 1, 1) == DRAWS then class.draws, class.shuns = sub(shuns, 2), '' end
    local wanted, traits = string.match(shape, '^(.-);(.*)$')
    for resource, amount in string.gmatch(wanted or '', '([^=,]+)=([^,]+)') do
      class.wants[#class.wants + 1] = { resource, tonumber(amount) }
    end
    for trait in string.gmatch(traits or '', '[^,]+') do class.traits[#class.traits + 1] = trait end
    classes[name] = class
  end
  return class
end

-- Keys that are written in one text.
function gates.keys(text)
  local keys = lists[text]
  if not keys then
    keys = {}
    for key in string.gmatch(text, '[^,]+') do
      keys[#keys + 1] = key
      if valves.is_breaker(key) then keys.has_breakers = true end
    end
    lists[text] = keys
  end
  return keys
end

function gates.stream(name)
  local stream = streams[name]
  if not stream then
    local lane, keys, class_name = string.match(name, '^([^|]*)|([^|]*)|(.*)$')
    local class = gates.class(class_name)
    stream = { name = name, queue = class.queue, lane = lane, keys = gates.keys(keys), named = keys, class = class }
    streams[name] = stream
  end
  return stream
end

local function stream_named(queue, kind, task, lane, flow, shuns)
  local shape, keys = flow and flow[1] or '', flow and flow[2] or ''
  return gates.stream(lane .. '|' .. keys .. '|' .. queue .. '|' .. kind .. ':' .. task .. '|' .. shape .. '|' .. shuns)
end

function gates.stream_of(row)
  return stream_named(row.queue, row.kind, row.task, row.lane, row.flow, row.shuns)
end

function gates.is_ready(row)
  return use('rows').has(row.flags, use('rows').GATED)
    and call('ZSCORE', NS .. 'gated:' .. gates.stream_of(row).name, row.n) and true
end

local function key_of_turns(gate, class)
  local key = class.turns[gate]
  if not key then
    key = NS .. 'turns:' .. gate .. '|' .. class.name
    class.turns[gate] = key
  end
  return key
end

local function ranked(rank)
  return string.format('%017d', math.max(0, rank))
end

-- What a standing job costs of each key, by meter.
local function costs_of(n)
  local row = use('rows').of(n)
  return row and row.flow and row.flow[3] or {}
end

-- When the valves of a stream let its first job pass, by which of them that is, and what it costs of each key where
-- that was looked at.
function gates.opens_at(stream, n)
  local at, by, costs = now, nil, nil
  for _, key in ipairs(stream.keys) do
    local valve, cost = valves.of(key), nil
    if valve.rule.has_costs then
      costs = costs or costs_of(n)
      cost = costs[key]
    end
    local opens_at = valves.opens_at(valve, cost)
    if opens_at > at then at, by = opens_at, key end
  end
  return at, by, costs
end

-- --- gates -------------------------------------------------------------------------------
-- When a gate of a class opens; false where it has none.
local function at_of(class, gate)
  if class.at[gate] == nil then
    local at = call('ZSCORE', NS .. 'gates:' .. class.name, gate)
    class.at[gate] = at and tonumber(at) or false
  end
  return class.at[gate]
end

function gates.set(class, gate, at)
  if at_of(class, gate) == at then return end
  class.at[gate] = at
  call('ZADD', NS .. 'gates:' .. class.name, at, gate)
  if at > now and at < NEVER then
    call('ZADD', NS .. 'openings', at, gate .. '|' .. class.name)
  else
    call('ZREM', NS .. 'openings', gate .. '|' .. class.name)
  end
end

-- Says when a gate opens, if it is there still: those who stood there may have gone to another.
function gates.shut(class, gate, at)
  if at_of(class, gate) then gates.set(class, gate, at) end
end

-- Makes a gate where there is none. `until_at`: the first that comes to stand there is held back until then.
local function stand(class, gate, until_at)
  local at = at_of(class, gate)
  if at then
    if until_at and at > until_at then gates.set(class, gate, until_at) end
    return
  end
  at = until_at or 0
  if gate ~= '' then
    local shut_until = valves.shut_until(valves.of(gate))
    if shut_until > now then at = shut_until end
  end
  gates.set(class, gate, at)
  call('ZADD', NS .. 'gate:' .. gate, 0, class.name)
  call('ZADD', NS .. 'classes', 0, class.name)
  call('SET', NS .. 'gated', '1')
end

local function drop_gate(class, gate)
  class.at[gate] = false
  call('ZREM', NS .. 'gates:' .. class.name, gate)
  call('ZREM', NS .. 'gate:' .. gate, class.name)
  call('ZREM', NS .. 'openings', gate .. '|' .. class.name)
  if call('EXISTS', NS .. 'gates:' .. class.name) == 0 then call('ZREM', NS .. 'classes', class.name) end
end

-- Opens or shuts the gates of a key whose valve has changed.
function gates.reconsider(valve)
  local names = call('ZRANGE', NS .. 'gate:' .. valve.key, 0, MOST_CLASSES - 1)
  if #names == 0 then return end
  local at = valves.shut_until(valve)
  if at <= now then at = 0 end
  for _, name in ipairs(names) do
    local class = gates.class(name)
    if at_of(class, valve.key) then gates.set(class, valve.key, at) end
  end
end

-- --- streams -----------------------------------------------------------------------------
local function touch(stream)
  if stream.is_touched then return end
  stream.is_touched = true
  touched[#touched + 1] = stream
end

gates.touch = touch

local function count(stream, jobs)
  for _, key in ipairs(stream.keys) do
    if not valves.is_breaker(key) then queued[key] = (queued[key] or 0) + jobs end
  end
end

local function arrive(stream, n, rank, flow)
  local arriving = stream.arriving or {}
  stream.arriving, stream.next = arriving, nil
  arriving[#arriving + 1], arriving[#arriving + 2] = rank, n
  if flow and flow[3] then stream.has_costs = true end
  count(stream, 1)
  touch(stream)
end

function gates.arrive(n, rank, queue, kind, task, lane, flow, draws)
  arrive(stream_named(queue, kind, task, lane, flow, draws or ''), n, rank, flow)
end

-- What a job of a workflow names that is stored: nothing, or that it draws what this has reserved.
function gates.draws(workflow, queue, kind, task, lane, flow)
  if not flow or not string.find(flow[1], '=', 1, true) then return nil end
  return use('reservations').draws(workflow, stream_named(queue, kind, task, lane, flow, '').class.wants)
end

function gates.add(row)
  -- Jobs of format 2 come here first.
  if row.lane ~= '' then lanes.know(row.queue, { [row.lane] = true }) end
  if row.flow and use('rows').has(row.flags, use('rows').MEMBER) and string.find(row.flow[1], '=', 1, true) then
    use('reservations').bind(row, gates.stream_of(row).class.wants)
  end
  arrive(gates.stream_of(row), row.n, row.rank, row.flow)
end

function gates.remove(row)
  local stream = gates.stream_of(row)
  if call('ZREM', NS .. 'gated:' .. stream.name, row.n) == 1 then count(stream, -1) end
  stream.next, stream.is_cut = nil, true
  touch(stream)
end

local function key_of_stands(stream)
  return NS .. 'stands:' .. stream.queue .. '|' .. stream.lane
end

local function entry_of(stream)
  if stream.entry == nil then
    local standing = call('HGET', key_of_stands(stream), stream.name)
    stream.entry = standing and { head = sub(standing, 1, HEAD), gate = sub(standing, HEAD + 1) } or false
  end
  return stream.entry
end

-- The gate at which a stream with a new first job stands.
local function chosen(stream, gate, n)
  if #stream.keys > 1 then
    local _, by = gates.opens_at(stream, n)
    -- Claims do not look at it before its gate opens. What wants room of a worker as well waits for one that has it.
    if by and #stream.class.wants == 0 then use('patience').note(stream, n) end
    return by or gate or stream.keys[1]
  end
  return stream.keys[1] or ''
end

local left, come

local function leave(stream, was)
  local key = key_of_turns(was.gate, stream.class)
  local place = left[key] or { gate = was.gate, class = stream.class }
  left[key] = place
  place[#place + 1] = was.head .. stream.name
end

-- The first of those that come to a stream, and its rank.
local function first_arrived(arriving)
  local rank, n = arriving[1], arriving[2]
  for i = 3, #arriving, 2 do
    local other_rank, other = arriving[i], arriving[i + 1]
    if other_rank < rank or (other_rank == rank and other < n) then rank, n = other_rank, other end
  end
  return n, rank
end

-- The first job of a stream, and its rank; false where that is the one which it was.
local function first_of(stream, arriving)
  if arriving and not stream.is_cut then
    local was, n, rank = entry_of(stream), first_arrived(arriving)
    if not was or ranked(rank) .. n < was.head then return n, rank end
    return false
  end
  if stream.next == nil then return unpack(call('ZRANGE', NS .. 'gated:' .. stream.name, 0, 0, 'WITHSCORES')) end
  if stream.next then return unpack(stream.next) end
end

local function write_stream(stream)
  local arriving = stream.arriving
  if arriving then many('ZADD', NS .. 'gated:' .. stream.name, arriving) end
  if stream.has_costs or (arriving and #stream.keys > 1) then call('ZADD', NS .. 'mixed', 'NX', 0, stream.name) end
  local n, rank = first_of(stream, not stream.to and arriving)
  local to, until_at = stream.to, stream.until_at
  stream.arriving, stream.next, stream.to, stream.until_at, stream.is_touched = nil, nil, nil, nil, nil
  stream.has_costs = nil
  -- What comes behind the first changes nothing more.
  if n == false then return end
  stream.is_cut = nil
  local was = entry_of(stream)
  if not n then
    if was then
      leave(stream, was)
      call('HDEL', key_of_stands(stream), stream.name)
      call('ZREM', NS .. 'mixed', stream.name)
    end
    stream.entry = false
    return
  end
  local head = ranked(tonumber(rank)) .. n
  local is_new = not was or was.head ~= head
  local gate = to or was and was.gate
  if is_new then gate, until_at = chosen(stream, gate, n), nil end
  if is_new or gate ~= was.gate then
    if was then leave(stream, was) end
    local key = key_of_turns(gate, stream.class)
    local turns = come[key] or {}
    come[key] = turns
    turns[#turns + 1], turns[#turns + 2] = text_of(lanes.clock(stream.queue, stream.lane)), head .. stream.name
    call('HSET', key_of_stands(stream), stream.name, head .. gate)
    stream.entry = { head = head, gate = gate }
    stand(stream.class, gate, until_at)
    -- A new first job may cost less than the one that was held back.
    if is_new and gate ~= '' and at_of(stream.class, gate) > now and valves.of(gate).rule.has_costs
      and valves.shut_until(valves.of(gate)) <= now then
      gates.set(stream.class, gate, 0)
    end
  end
  local lanes_written = written[stream.queue]
  if not lanes_written then
    lanes_written = {}
    written[stream.queue] = lanes_written
  end
  lanes_written[stream.lane] = true
end

-- Whether the only stream of a lane was put in its place just now.
function gates.has_written(queue, lane)
  return written[queue] and written[queue][lane]
end

-- Puts a stream where the clock of its lane says.
function gates.reclock(name, standing, clock)
  local class, gate = gates.stream(name).class, sub(standing, HEAD + 1)
  call('ZADD', key_of_turns(gate, class), 'XX', clock, sub(standing, 1, HEAD) .. name)
end

function gates.write()
  if #touched == 0 then return end
  left, come, written = {}, {}, {}
  local all = touched
  touched = {}
  for _, stream in ipairs(all) do write_stream(stream) end
  for key, place in pairs(left) do many('ZREM', key, place) end
  for key, turns in pairs(come) do many('ZADD', key, turns) end
  for key, place in pairs(left) do
    if call('EXISTS', key) == 0 then drop_gate(place.class, place.gate) end
  end
  for key, jobs in pairs(queued) do
    if jobs ~= 0 then call('HINCRBY', NS .. 'queued', key, jobs) end
  end
  queued = {}
  valves.write_noted()
end

-- Looks at some streams that may be held back by something else than by where they stand.
function gates.audit(most)
  local names = call('ZRANGE', NS .. 'mixed', 0, most - 1)
  local shut = {}
  for _, name in ipairs(names) do
    local stream = gates.stream(name)
    local entry, class = entry_of(stream), stream.class
    local at = entry and at_of(class, entry.gate)
    if #names == most then call('ZADD', NS .. 'mixed', 'XX', string.format('%.17g', now), name) end
    if at and at <= now then
      local opens_at, by = gates.opens_at(stream, sub(entry.head, 18))
      if opens_at > now and by ~= entry.gate then
        stream.to, stream.until_at = by, opens_at
        touch(stream)
      elseif opens_at > now then
        local place = key_of_turns(by, class)
        local known = shut[place] or { class, by, 0, NEVER }
        shut[place] = known
        known[3], known[4] = known[3] + 1, math.min(known[4], opens_at)
      end
    end
  end
  for place, known in pairs(shut) do
    local class, gate, blocked, at = unpack(known)
    if blocked == call('ZCARD', place) then
      gates.set(class, gate, at)
    elseif at < NEVER then
      call('ZADD', NS .. 'openings', at, gate .. '|' .. class.name)
    end
  end
  gates.write()
end

-- --- for a claim -------------------------------------------------------------------------
-- A page of the streams that stand at a gate: heads with names, and clocks, in turns.
function gates.page(class, gate, from, size)
  return call('ZRANGE', key_of_turns(gate, class), from, from + size - 1, 'WITHSCORES')
end

-- The gates of a class that are open at an instant, the longest open first.
function gates.open(class, at, from, most)
  return call('ZRANGEBYSCORE', NS .. 'gates:' .. class.name, '-inf', at, 'LIMIT', from, most)
end

-- Takes the first jobs of a stream, whose next is known.
function gates.cut(stream, jobs, next_n, next_rank)
  call('ZREMRANGEBYRANK', NS .. 'gated:' .. stream.name, '0', text_of(jobs - 1))
  count(stream, -jobs)
  stream.next, stream.is_cut = next_n and { next_n, next_rank } or false, true
  touch(stream)
end

return gates
