-- What a claim passed, and what becomes of it when the claim ends.
--
-- Behind the rest of a claim that is not plain: lane, what that was charged, worker, keys, costs by key (false where
-- nobody looked), units by resource (or false), and by request what the running job acquired: since when, and its uses
-- as key and cost in turns; of one that draws, of which workflow, and the resources (see the part `reservations`).
--
-- What an outcome tells (a plan's last value): whether breakers are told of it, whether the claim came back unused,
-- whether another worker is wanted next, what was spent by meter, the keys of the breakers that it blames, those of
-- the limits that it slows, for how long, the resources that it keeps for its workflow, and those that it frees.
local rows, valves, lanes = use('rows'), use('valves'), use('lanes')
local flow = {}

local function keys_of(passed)
  return use('gates').keys(passed[4])
end

-- Lets an outcome tell the valves what its claim met.
function flow.heed(job, told)
  for _, key in ipairs(told[6] or {}) do valves.refuse(valves.of(key), told[7]) end
  if told[3] then job.shuns = call('HGET', NS .. 'session:' .. job.session, 'worker') or '' end
  if not told[1] or not job.passed or not keys_of(job.passed).has_breakers then return end
  local is_blamed = {}
  for _, key in ipairs(told[5] or {}) do is_blamed[key] = true end
  for _, key in ipairs(keys_of(job.passed)) do
    if valves.is_breaker(key) then valves.tell(valves.of(key), is_blamed[key], job.started_at) end
  end
end

-- Whether a claim was let through as a probe of a breaker that its outcome blames.
function flow.was_probe(job, told)
  for _, blamed in ipairs(told[5] or {}) do
    for _, key in ipairs(keys_of(job.passed)) do
      if key == blamed and valves.was_probe(valves.of(key), job.started_at) then return true end
    end
  end
  return false
end

local function cost_of(n, passed, key)
  local costs = passed[5]
  if not costs then
    local row = rows.of(n)
    costs = row and row.flow and row.flow[3] or {}
  end
  return costs[key]
end

-- Gives back what a claim passed; `told` is what its outcome tells, or nothing.
function flow.give_back(n, queue, started_at, passed, told)
  local is_unused, spent = told and told[2], told and told[4]
  if passed[2] > 0 then lanes.correct(queue, passed[1], passed[2], now - started_at, is_unused) end
  for _, key in ipairs(keys_of(passed)) do
    local valve = valves.of(key)
    if is_unused then
      valves.give_back(valve, valve.rule.has_costs and cost_of(n, passed, key))
    elseif spent and valve.rule.has_costs and next(spent) then
      valves.correct(valve, cost_of(n, passed, key), spent)
    end
    valves.let_loose(valve, n, started_at)
  end
  for request, acquired in pairs(passed[7] or {}) do
    for i = 2, #acquired, 2 do valves.let_loose(valves.of(acquired[i]), n .. ':' .. request, acquired[1]) end
  end
  if passed[6] then call('HDEL', NS .. 'units:' .. passed[3], n) end
  if passed[8] then
    call('HDEL', NS .. 'drawn:' .. passed[3], n)
    use('reservations').look_again(passed[3])
  end
end

-- Gives back what a claim passed that ends well.
function flow.conclude(n, session, queue, started_at, passed, told)
  if told[3] or told[6] or (told[1] and keys_of(passed).has_breakers) then
    flow.heed({ n = n, session = session, started_at = started_at, passed = passed }, told)
  end
  flow.give_back(n, queue, started_at, passed, told)
end

-- --- what running jobs acquire -----------------------------------------------------------
local function put(n, run, job, passed)
  local off = limit(run, rows.RUN)
  local whole = off < 0 and run or sub(run, 1, off)
  if not job.task then whole = whole .. pack('') end
  local at, all = rows.place_of_flags(whole, rows.CLAIM + 1, rows.GATED)
  if at then whole = sub(whole, 1, at) .. all .. sub(whole, at + 2) end
  call('HSET', NS .. 'runs', n, whole .. pack(passed))
end

-- Uses are keys and costs in turns. Returns whether they were given, and when to ask again or ''.
function flow.acquire(n, run, job, request, uses)
  local passed = job.passed or { '', 0, '', '', false, false }
  local acquired = passed[7] or {}
  if acquired[request] then return 1, '' end
  local at = now
  for i = 1, #uses, 2 do at = math.max(at, valves.opens_at(valves.of(uses[i]), uses[i + 1])) end
  if at > now then return 0, at == valves.NEVER and '' or string.format('%.17g', at - now) end
  for i = 1, #uses, 2 do
    local valve = valves.of(uses[i])
    valves.reserve(valve, uses[i + 1])
    valves.hold(valve, n .. ':' .. request)
  end
  acquired[request] = { now, unpack(uses) }
  passed[7] = acquired
  put(n, run, job, passed)
  valves.write()
  return 1, ''
end

function flow.release(n, run, job, request, spent)
  local acquired = job.passed and job.passed[7] and job.passed[7][request]
  if not acquired then return end
  for i = 2, #acquired, 2 do
    local valve = valves.of(acquired[i])
    valves.correct(valve, acquired[i + 1], spent)
    valves.let_loose(valve, n .. ':' .. request, acquired[1])
  end
  job.passed[7][request] = nil
  put(n, run, job, job.passed)
  valves.write()
end

return flow
