-- Fair shares of a queue: the same rules as core/lanes.py.
--
-- `lane:<queue>` has the clock of each lane and the seconds that its jobs took lately; it is there once the queue has
-- known a lane with a name. `clocks` has the clocks of queues. With a single lane no clock moves.
local lanes = {}
local SMOOTHING = 8
-- A turn is one job, or as many as take so long together, up to a number.
local TURN_S, TURN_JOBS = 0.002, 8
-- So many streams of a lane are put in their new place at once; of more, each when its turn comes.
local MOST_MOVED = 64
local STATES = { 'ready', 'scheduled', 'waiting', 'running', 'succeeded', 'failed', 'cancelled', 'expired' }
local queues = {}
local settle_up

-- What a call knows of a queue, with all jobs that gave back their slots.
local function of(queue)
  local known = queues[queue]
  if not known then
    known = { count = call('HLEN', NS .. 'lane:' .. queue), lanes = {}, weights = {}, given_back = {} }
    queues[queue] = known
  end
  if #known.given_back > 0 then settle_up(queue, known) end
  return known
end

-- Whether the lanes of a queue share it: whether there is more than one.
function lanes.share(queue)
  return of(queue).count > 1
end

local function clock_of(queue, known)
  known.clock = known.clock or tonumber(call('HGET', NS .. 'clocks', queue) or 0)
  return known.clock
end

local function lane_of(queue, known, name)
  local lane = known.lanes[name]
  if not lane then
    local kept = call('HGET', NS .. 'lane:' .. queue, name)
    local _, clock, mean_s = limit(kept or pack(0, 1), 2)
    lane = { clock = clock, mean_s = mean_s, is_kept = kept and true }
    known.lanes[name] = lane
  end
  return lane
end

function lanes.clock(queue, name)
  local known = of(queue)
  return known.count > 1 and lane_of(queue, known, name).clock or 0
end

-- How many jobs of one stream and priority are a turn, by how long an ask says that they take.
function lanes.turn(queue, pace_s)
  if not pace_s or not lanes.share(queue) then return 1 end
  return math.min(math.max(1, math.floor(TURN_S / math.max(pace_s, 1e-9))), TURN_JOBS)
end

local function has_had_jobs(queue)
  local fields = {}
  for i, state in ipairs(STATES) do fields[i] = queue .. '|' .. state end
  for _, jobs in ipairs(call('HMGET', NS .. 'count', unpack(fields))) do
    if jobs then return true end
  end
  return false
end

local function read(queue, known, names)
  local unread = {}
  for _, name in ipairs(names) do
    if not known.lanes[name] then unread[#unread + 1] = name end
  end
  for i, kept in ipairs(read_all(NS .. 'lane:' .. queue, unread)) do
    local _, clock, mean_s = limit(kept or pack(0, 1), 2)
    known.lanes[unread[i]] = { clock = clock, mean_s = mean_s, is_kept = kept and true }
  end
end

-- Reads some lanes at once.
function lanes.read(queue, names)
  read(queue, of(queue), names)
end

-- Begins a lane, unless it is there; what is written of it is added to `begun`.
local function add(queue, known, name, begun)
  local lane = lane_of(queue, known, name)
  if lane.is_kept then return end
  lane.clock, lane.is_kept = clock_of(queue, known), true
  begun[#begun + 1], begun[#begun + 2] = name, pack(lane.clock, lane.mean_s)
  known.count = known.count + 1
end

-- Notes the lanes of new jobs, '' among them where some have none. Before the jobs are counted.
function lanes.know(queue, names)
  local known = of(queue)
  local is_first = known.count == 0
  if is_first and next(names) == '' and next(names, '') == nil then return end
  local all, begun = {}, {}
  if is_first and (names[''] or has_had_jobs(queue)) then add(queue, known, '', begun) end
  for name in pairs(names) do all[#all + 1] = name end
  lanes.read(queue, all)
  for _, name in ipairs(all) do add(queue, known, name, begun) end
  many('HSET', NS .. 'lane:' .. queue, begun)
  -- From here on jobs without a lane are to be noted as well.
  if is_first and not known.lanes[''] then call('HSET', NS .. 'meta', 'wary', '1') end
end

local has_weights

local function weight_of(queue, known, name)
  if has_weights == nil then has_weights = call('EXISTS', NS .. 'set:lane') == 1 end
  if not has_weights then return 1 end
  if not known.weights[name] then
    local kept = call('HGET', NS .. 'set:lane', queue .. '%2F' .. name)
    known.weights[name] = kept and cmsgpack.unpack(kept).weight or 1
  end
  return known.weights[name]
end

-- Charges a lane with a job that is claimed; returns with how much, 0 where there is nobody to share with.
function lanes.charge(queue, name)
  local known = of(queue)
  if known.count < 2 then return 0 end
  local lane = lane_of(queue, known, name)
  local charged = math.max(1, math.floor(lane.mean_s + 0.5))
  lane.clock = math.max(lane.clock, clock_of(queue, known)) + charged / weight_of(queue, known, name)
  lane.has_moved = true
  return charged
end

-- Has the clock of a queue follow a lane that had a turn, by its clock before that.
function lanes.follow(queue, lane_clock)
  local known = of(queue)
  if known.count < 2 or lane_clock <= clock_of(queue, known) then return end
  known.clock, known.has_moved = lane_clock, true
end

local function correct(queue, known, name, charged, ran_s, is_unused)
  local lane, weight = lane_of(queue, known, name), weight_of(queue, known, name)
  if is_unused then
    lane.clock = lane.clock - charged / weight
  else
    local took = math.floor(ran_s) + 1
    if took == charged and lane.mean_s == took then return end
    lane.mean_s = lane.mean_s + (took - lane.mean_s) / SMOOTHING
    lane.clock = lane.clock + (took - charged) / weight
  end
  lane.has_moved = true
end

-- Corrects the lanes of jobs that have given back their slots. They are read at once.
function settle_up(queue, known)
  local given_back, names = known.given_back, {}
  known.given_back = {}
  for i = 1, #given_back, 4 do names[#names + 1] = given_back[i] end
  read(queue, known, names)
  for i = 1, #given_back, 4 do
    correct(queue, known, given_back[i], given_back[i + 1], given_back[i + 2], given_back[i + 3])
  end
end

-- Notes a job that has given back its slot, for which its lane is to be corrected.
function lanes.correct(queue, name, charged, ran_s, is_unused)
  local given_back = (queues[queue] or of(queue)).given_back
  local size = #given_back
  given_back[size + 1], given_back[size + 2] = name, charged
  given_back[size + 3], given_back[size + 4] = ran_s, is_unused or false
end

-- Puts the streams of a lane where they belong by its clock.
local function move(queue, name, clock)
  local key = NS .. 'stands:' .. queue .. '|' .. name
  local streams = call('HLEN', key)
  if streams == 0 or streams > MOST_MOVED or (streams == 1 and use('gates').has_written(queue, name)) then return end
  local standing = call('HGETALL', key)
  for i = 1, #standing, 2 do use('gates').reclock(standing[i], standing[i + 1], clock) end
end

function lanes.write()
  for queue, known in pairs(queues) do
    if #known.given_back > 0 then settle_up(queue, known) end
    if known.has_moved then
      call('HSET', NS .. 'clocks', queue, string.format('%.17g', known.clock))
      known.has_moved = false
    end
    local moved = {}
    for name, lane in pairs(known.lanes) do
      if lane.has_moved then
        moved[#moved + 1], moved[#moved + 2] = name, pack(lane.clock, lane.mean_s)
        lane.has_moved = false
        move(queue, name, lane.clock)
      end
    end
    many('HSET', NS .. 'lane:' .. queue, moved)
  end
end

return lanes
