-- Takes jobs of a queue that are not all plain: the lane whose clock is behind goes first, within a lane the job of
-- the lowest rank, of those that may pass. It has a turn of so many jobs of that stream and priority as `lanes.turn`
-- says. Streams that stand at shut gates are not looked at.
local asks, gates, valves, lanes, streams = use('asks'), use('gates'), use('valves'), use('lanes'), use('streams')
local abilities, resources, patience = use('abilities'), use('resources'), use('patience')
local passing = {}
local MOST_GATES, SMALLEST_PAGE, LARGEST_PAGE = 64, 4, 128
-- So many streams that may not pass are looked at in a claim, and of a class that has no room.
local MOST_VISITS, MOST_MISSES = 256, 64
-- So much lies between the ranks of two priorities: the same as in core/job.py.
local STEP = 2 ^ 52

-- --- a heap of what is next, by clock, rank and n ----------------------------------------
local function is_before(one, other)
  if one.clock ~= other.clock then return one.clock < other.clock end
  if one.rank ~= other.rank then return one.rank < other.rank end
  return one.n < other.n
end

local function push(heap, entry)
  local at = #heap + 1
  while at > 1 do
    local above = math.floor(at / 2)
    if not is_before(entry, heap[above]) then break end
    heap[at] = heap[above]
    at = above
  end
  heap[at] = entry
end

local function pop(heap)
  local first, last = heap[1], table.remove(heap)
  local size = #heap
  if size == 0 then return first end
  local at = 1
  while true do
    local below = 2 * at
    if below > size then break end
    if below < size and is_before(heap[below + 1], heap[below]) then below = below + 1 end
    if not is_before(heap[below], last) then break end
    heap[at] = heap[below]
    at = below
  end
  heap[at] = last
  return first
end

-- --- where jobs stand --------------------------------------------------------------------
local function suits(taking, class, ask)
  if not ask.kinds[class.kind] or not abilities.runs(taking.session, class.task) then return false end
  if class.suits == nil then class.suits = resources.suits(class, taking.session) end
  return class.suits
end

-- Open gates of a queue at which jobs stand that an ask may take, from so many of each class on.
local function sources_of(taking, queue, ask, from)
  local sources = {}
  -- '}' follows '|'.
  for _, name in ipairs(call('ZRANGEBYLEX', NS .. 'classes', '[' .. queue .. '|', '(' .. queue .. '}')) do
    local class = gates.class(name)
    if suits(taking, class, ask) then
      local turn = lanes.turn(queue, ask.pace[class.task])
      local size = math.max(SMALLEST_PAGE, math.min(math.floor(ask.size / turn), LARGEST_PAGE))
      for _, gate in ipairs(gates.open(class, now, from, MOST_GATES)) do
        sources[#sources + 1] = {
          class = class, gate = gate, read = 0, size = size, turn = turn, blocked = 0, min_at = valves.NEVER,
          waits = false,
        }
      end
    end
  end
  return sources
end

-- Reads the next page of a gate; where there is more, a mark is put behind its last stream.
local function read_on(heap, source)
  local page = gates.page(source.class, source.gate, source.read, source.size)
  local size, last, names, found = #page / 2, nil, {}, {}
  for i = 1, #page, 2 do
    local stream = gates.stream(sub(page[i], 30))
    found[#found + 1], names[#names + 1] = stream, stream.lane
  end
  lanes.read(source.class.queue, names)
  for i = 1, #page, 2 do
    local head, clock, stream = sub(page[i], 1, 29), tonumber(page[i + 1]), found[(i + 1) / 2]
    last = { stream = stream, source = source, clock = clock, rank = tonumber(sub(head, 1, 17)), n = sub(head, 18) }
    stream.entry, stream.cut, stream.items, stream.item_at, stream.page = { head = head, gate = source.gate }, 0, {}, 1, source.turn
    push(heap, last)
  end
  source.read = source.read + size
  if size == source.size then
    push(heap, { source = source, clock = last.clock, rank = last.rank, n = last.n .. '~' })
  end
  source.size = math.min(2 * source.size, LARGEST_PAGE)
end

local function add_plain(heap, queue, stream)
  if stream.n then push(heap, { plain = stream, clock = lanes.clock(queue, ''), rank = streams.rank(stream), n = stream.n }) end
end

-- --- taking ------------------------------------------------------------------------------
local function note(taking, n, class, passed)
  local ns = taking.ns
  ns[#ns + 1], taking.from[#taking.from + 1] = n, class
  taking.passed[#ns] = passed
  taking.taken[n] = true
end

-- What the job after one that was taken is.
local function next_of(stream)
  stream.cut = stream.cut + 1
  if stream.item_at > #stream.items then
    local last = stream.cut + stream.page - 1
    stream.items, stream.item_at = call('ZRANGE', NS .. 'gated:' .. stream.name, text_of(stream.cut), text_of(last), 'WITHSCORES'), 1
    stream.page = math.min(2 * stream.page, LARGEST_PAGE)
  end
  local n, rank = stream.items[stream.item_at], stream.items[stream.item_at + 1]
  stream.item_at = stream.item_at + 2
  return n, rank and tonumber(rank)
end

-- Notes at its limits a job that only they hold back.
local function note_waiter(taking, stream, n, costs)
  if #stream.keys < 2 and not costs then return end
  if #stream.class.wants == 0 or resources.has_room(stream.class, taking.session) then patience.note(stream, n) end
end

-- Returns whether the first job of a stream may pass now, what it costs, which units it gets, and which it draws.
local function may_pass(taking, entry)
  local stream, source = entry.stream, entry.source
  local at, by, costs = gates.opens_at(stream, entry.n)
  if at > now then
    local shut_until = by == source.gate and valves.shut_until(valves.of(by)) or now
    if by ~= source.gate then
      stream.to, stream.until_at = by, at
      gates.touch(stream)
    elseif shut_until > now then
      source.is_shut = shut_until
    else
      source.blocked, source.min_at = source.blocked + 1, math.min(source.min_at, at)
    end
    note_waiter(taking, stream, entry.n, costs)
    return false
  end
  if valves.may_keep_room and patience.keeps_back(stream, entry.n) then
    -- All look at it again.
    source.waits, taking.has_kept_back = true, true
    return false
  end
  if #stream.class.wants == 0 then return true, costs end
  local units, names = resources.room(taking.session, stream, entry.n, taking.taken)
  if units then return true, costs, units, names end
  stream.class.misses = (stream.class.misses or 0) + 1
  source.waits = true
  return false
end

-- What a claim passes: of the jobs of a stream without costs and units one table, which is packed once.
local function passed_of(stream, session, costs, units, names)
  local charged, last = lanes.charge(stream.queue, stream.lane), stream.passed
  local is_bare = not costs and not units
  if is_bare and last and last[2] == charged then return last end
  local passed = {
    stream.lane, charged, units and session.worker or '', stream.named, costs or false, units or false,
    names and {}, names and { stream.class.draws, unpack(names) },
  }
  if is_bare then stream.passed = passed end
  return passed
end

local function take(taking, entry, costs, units, names)
  local stream, session = entry.stream, taking.session
  for _, key in ipairs(stream.keys) do
    local valve = valves.of(key)
    valves.reserve(valve, costs and costs[key])
    valves.hold(valve, entry.n)
  end
  patience.went(stream, entry.n)
  if units then resources.take(session, stream.class, units, names) end
  note(taking, entry.n, stream.class, passed_of(stream, session, costs, units, names))
  if stream.cut == 0 then taking.cuts[#taking.cuts + 1] = stream end
  entry.n, entry.rank = next_of(stream)
  stream.after, stream.after_rank = entry.n, entry.rank
end

local function take_plain(taking, entry)
  local stream = entry.plain
  local charged = lanes.charge(stream.pair.queue, '')
  note(taking, entry.n, stream.pair, charged > 0 and { '', charged, '', '', false, false } or nil)
  if stream.taken == 0 then taking.streams[#taking.streams + 1] = stream end
  streams.step(stream)
  entry.n, entry.rank = stream.n, stream.n and streams.rank(stream)
end

-- Takes the first job of an entry; returns whether it was taken, and whether the ask goes on.
local function take_first(taking, entry, ask)
  local stream, plain = entry.stream, entry.plain
  local may, costs, units, names = true, nil, nil, nil
  if stream then may, costs, units, names = may_pass(taking, entry) end
  if not may then return false, true end
  local pace_s = ask.pace[plain and plain.pair.task or stream.class.task]
  if ask.taken >= ask.slots and not pace_s then
    if stream then entry.source.waits = true end
    return false, true
  end
  if not asks.admit(ask, pace_s) then return false, false end
  if plain then take_plain(taking, entry) else take(taking, entry, costs, units, names) end
  return true, true
end

local function priority_of(entry)
  return math.floor(math.max(0, entry.rank) / STEP)
end

-- Takes of an entry what is a turn; returns whether the next job may be looked at, and whether the ask goes on.
local function take_turn(taking, queue, entry, ask)
  local turn = lanes.turn(queue, ask.pace[entry.plain and entry.plain.pair.task or entry.stream.class.task])
  local priority, left, is_taken, goes_on = priority_of(entry), turn, true, true
  while left > 0 and entry.n and priority_of(entry) == priority and not asks.is_full(ask) do
    is_taken, goes_on = take_first(taking, entry, ask)
    if not is_taken then break end
    left = left - 1
  end
  if left < turn then lanes.follow(queue, entry.clock) end
  return is_taken, goes_on
end

-- Brings gates and streams in line with what was taken and found.
local function write(taking, sources, is_exhausted)
  for _, stream in ipairs(taking.cuts) do gates.cut(stream, stream.cut, stream.after, stream.after_rank) end
  taking.cuts = {}
  gates.write()
  for _, source in ipairs(sources) do
    if source.is_shut then
      gates.shut(source.class, source.gate, source.is_shut)
    elseif is_exhausted and source.blocked > 0 and not source.waits then
      gates.shut(source.class, source.gate, source.min_at)
    end
  end
end

-- Whether a queue has more than plain jobs of one lane for an ask.
function passing.concerns(taking, queue, ask)
  taking.sources = sources_of(taking, queue, ask, 0)
  return #taking.sources > 0 or lanes.share(queue)
end

-- Takes from one queue what an ask still wants; returns false when the ask is over.
function passing.fill(taking, queue, ask)
  local sources, heap, goes_on, visits, read = taking.sources, {}, true, 0, 0
  for _, source in ipairs(sources) do read_on(heap, source) end
  for _, stream in ipairs(streams.plain(taking, queue, ask)) do add_plain(heap, queue, stream) end
  while visits < MOST_VISITS and not asks.is_full(ask) do
    if #heap == 0 then
      -- Of very many open gates the others come when the first have nothing more.
      read = read + MOST_GATES
      for _, source in ipairs(#sources >= read and sources_of(taking, queue, ask, read) or {}) do
        sources[#sources + 1] = source
        read_on(heap, source)
      end
      if #heap == 0 then break end
    end
    local entry = pop(heap)
    local source, stream, plain = entry.source, entry.stream, entry.plain
    local clock = (plain or stream) and lanes.clock(queue, plain and '' or stream.lane)
    if not clock then
      if not source.is_shut then read_on(heap, source) end
    elseif clock ~= entry.clock then
      entry.clock = clock
      push(heap, entry)
    elseif plain or (not source.is_shut and (stream.class.misses or 0) < MOST_MISSES) then
      local is_taken
      is_taken, goes_on = take_turn(taking, queue, entry, ask)
      if not goes_on then break end
      if not is_taken then
        visits = visits + (plain and 0 or 1)
      elseif entry.n then
        entry.clock = lanes.clock(queue, plain and '' or stream.lane)
        push(heap, entry)
      end
    end
  end
  valves.write_noted()
  write(taking, sources, #heap == 0 and visits < MOST_VISITS)
  return goes_on and not asks.is_full(ask)
end

return passing
