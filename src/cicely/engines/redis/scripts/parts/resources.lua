-- What workers have and jobs need: the same rules as core/resources.py and accepts in core/flow.py.
--
-- `units:<worker>` has what each running job uses of its worker, by n; `passed` the job that a worker passed over first
-- for want of room, when, and its fence then.
local abilities = use('abilities')
local resources = {}
local PATIENCE_S, EPSILON = 60, 1e-9
local MOST_SESSIONS = 1000

-- What a session's worker offers, and of which traits it accepts what.
function resources.gear(session)
  if not session.gear then
    local worker, gear = unpack(call('HMGET', NS .. 'session:' .. session.id, 'worker', 'gear'))
    session.worker = worker or ''
    session.gear = gear and cmsgpack.unpack(gear) or { {}, {} }
  end
  return session.gear[1], session.gear[2]
end

function resources.accepts(accepted, traits)
  for _, trait in ipairs(traits) do
    local name, value = string.match(trait, '^(.-)%%3D(.*)$')
    local values = accepted[name or trait]
    if values and not values[value or ''] then return false end
  end
  return true
end

local function place_one(amount, left, offers)
  local largest = 0
  for _, has in pairs(offers) do largest = math.max(largest, has) end
  if amount <= largest + EPSILON then
    local best
    for unit, has in pairs(left) do
      if has + EPSILON >= amount and (not best or has < left[best] or (has == left[best] and unit < best)) then
        best = unit
      end
    end
    return best and { [best] = amount }
  end
  local units, whole, sum = {}, {}, 0
  for unit in pairs(offers) do units[#units + 1] = unit end
  table.sort(units)
  for _, unit in ipairs(units) do
    if (left[unit] or 0) + EPSILON >= offers[unit] then
      whole[unit] = offers[unit]
      sum = sum + offers[unit]
      if sum + EPSILON >= amount then return whole end
    end
  end
end

-- Which units a job gets, by resource; nothing where they are not free.
function resources.place(wants, left, offers)
  local placed = {}
  for _, want in ipairs(wants) do
    local units = place_one(want[2], left[want[1]] or {}, offers[want[1]] or {})
    if not units then return nil end
    placed[want[1]] = units
  end
  return placed
end

local function without(left, taken)
  for name, units in pairs(taken) do
    for unit, amount in pairs(units) do
      if left[name] and left[name][unit] then left[name][unit] = math.max(0, left[name][unit] - amount) end
    end
  end
end

-- What is left of what a session's worker offers.
function resources.left(session)
  local offers = resources.gear(session)
  if not session.left then
    session.left = {}
    for name, units in pairs(offers) do
      session.left[name] = {}
      for unit, amount in pairs(units) do session.left[name][unit] = amount end
    end
    for _, taken in ipairs(call('HVALS', NS .. 'units:' .. session.worker)) do
      without(session.left, cmsgpack.unpack(taken))
    end
    for _, reserved in ipairs(use('reservations').left_on(session.worker)) do without(session.left, reserved) end
  end
  return session.left
end

-- Takes units for a job of a class, which draws some of them.
function resources.take(session, class, placed, names)
  if names then
    local reservations = use('reservations')
    placed = reservations.draw(reservations.drawn_by(class)[session.worker], names, placed)
  end
  without(resources.left(session), placed)
end

-- Which units a session could give a job of a class now, and which of them it draws; nothing where they are not free.
-- One that draws runs where its workflow has reserved something, and nowhere else.
local function placed_by(session, class, reserved)
  local offers = resources.gear(session)
  if not reserved then return resources.place(class.wants, resources.left(session), offers) end
  local one = reserved[session.worker]
  if not one then return nil end
  local units, names = use('reservations').place(class.wants, resources.left(session), offers, one)
  return units, units and names
end

-- --- whom a class of jobs suits ----------------------------------------------------------
local function could_ever(class, session)
  local offers, accepted = resources.gear(session)
  return resources.accepts(accepted, class.traits) and resources.place(class.wants, offers, offers) ~= nil
end

-- Whether there is a worker, beside the one that is shunned, that could run such jobs.
local function others_run(class)
  for _, id in ipairs(call('ZRANGE', NS .. 'sessions', 0, MOST_SESSIONS - 1)) do
    local other = abilities.session(id)
    if other and string.find(other.queues, '|' .. class.queue .. '|', 1, true) then
      local may = could_ever(class, other)
      if may and other.worker ~= class.shuns and abilities.runs(other, class.task) then return true end
    end
  end
  return false
end

-- Whether a session's worker could ever run jobs of a class.
function resources.suits(class, session)
  if not could_ever(class, session) then return false end
  return class.shuns == '' or class.shuns ~= session.worker or not others_run(class)
end

-- Whether a session could start a job of a class now, as far as its resources go.
function resources.has_room(class, session)
  return placed_by(session, class, class.draws and use('reservations').drawn_by(class)) ~= nil
end

-- --- patience ----------------------------------------------------------------------------
-- The job that a worker passed over and that is still ready; its row and since when. `taken` is what this call takes.
local function waits_for_room(session, taken)
  local known = session.passed
  if known == nil then
    local kept = call('HGET', NS .. 'passed', session.worker)
    local _, n, at, fence = limit(kept or pack('', 0, 0), 3)
    local row = n ~= '' and use('rows').of(n)
    -- Once it was claimed nobody waits for it any more.
    known = row and row.fence == fence and use('gates').is_ready(row) and { n = n, at = at, row = row } or false
    local class = known and use('gates').stream_of(row).class
    -- Nobody else can have what one draws.
    if class and class.draws and use('reservations').drawn_by(class) then known = false end
    session.passed = known
  end
  if known and taken[known.n] then
    session.passed = false
    return nil
  end
  return known or nil
end

local function pass_over(session, stream, n, taken)
  if waits_for_room(session, taken) then return end
  local row = use('rows').of(n)
  call('HSET', NS .. 'passed', session.worker, pack(n, now, row and row.fence or 0))
  session.passed = { n = n, at = now, stream = stream }
end

-- Whether a worker keeps free, for a job that it passed over for long, what this one wants.
local function keeps_free(session, wanted, taken)
  local first = waits_for_room(session, taken)
  if not first or now < first.at + PATIENCE_S then return false end
  local gates = use('gates')
  local stream = first.stream or gates.stream_of(first.row)
  -- It is the one, or goes before it.
  if stream == wanted then return false end
  local is_paused = call('SISMEMBER', NS .. 'paused', stream.class.queue) == 1
  if is_paused or gates.opens_at(stream, first.n) > now then return false end
  local names = {}
  for _, want in ipairs(stream.class.wants) do names[want[1]] = true end
  for _, want in ipairs(wanted.class.wants) do
    if names[want[1]] then return true end
  end
  return false
end

-- For whom which of these workers keep free what a ready job wants: worker, job, since when, and what that wants.
function resources.kept_from(row, workers)
  local kept, gates = {}, use('gates')
  local stream = gates.stream_of(row)
  local is_drawing = stream.class.draws and use('reservations').drawn_by(stream.class)
  if #stream.class.wants == 0 or is_drawing or not gates.is_ready(row) then return kept end
  for worker in pairs(workers) do
    local session = { worker = worker }
    if keeps_free(session, stream, {}) then
      local first = session.passed
      kept[#kept + 1] = {
        worker, first.row.id, string.format('%.17g', first.at), pack(gates.stream_of(first.row).class.wants),
      }
    end
  end
  return kept
end

-- The units that a session's worker has for a job, and of which resources it draws; or nothing.
function resources.room(session, stream, n, taken)
  local class = stream.class
  local reserved = class.draws and use('reservations').drawn_by(class)
  local placed, names = placed_by(session, class, reserved)
  if reserved then return placed, names end
  if not placed then
    pass_over(session, stream, n, taken)
    return nil
  end
  if keeps_free(session, stream, taken) then return nil end
  return placed
end

return resources
