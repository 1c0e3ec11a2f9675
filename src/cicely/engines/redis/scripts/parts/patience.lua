-- Others pass a job of several limits, or of a high cost, for a while, but not for ever: the same rules as
-- core/patience.py. Who is held back at a limit first is the last value of its gauge: n, since when, and since when
-- all its limits are open for it (0: they are not).
local valves, gates, rows = use('valves'), use('gates'), use('rows')
local patience = {}
local PATIENCE_S = valves.PATIENCE_S

-- The costs of a job, by key.
local function costs_of(n)
  local row = rows.of(n)
  return row and row.flow and row.flow[3] or {}
end

local function limits_of(stream)
  local limits = stream.limits
  if not limits then
    limits = {}
    for _, key in ipairs(stream.keys) do
      if not valves.is_breaker(key) then limits[#limits + 1] = valves.of(key) end
    end
    stream.limits = limits
  end
  return limits
end

-- Since when a job waits, where one of its limits says so.
local function waits_since(stream, n)
  local since
  for _, valve in ipairs(limits_of(stream)) do
    local first = valve.gauge.first
    if first and first[1] == n and (not since or first[2] < since) then since = first[2] end
  end
  return since
end

-- Whether a job could not start though its limits had room: one was refused, or a breaker is open.
local function is_stopped(stream)
  for _, key in ipairs(stream.keys) do
    local valve = valves.of(key)
    if valve.gauge.shut_until > now then return true end
    if valve.is_breaker and valves.opens_at(valve) > now then return true end
  end
  return false
end

-- Whether jobs of another kind may pass where this one may not.
local function may_be_passed(stream, n)
  local limits = limits_of(stream)
  if #limits ~= 1 then return #limits > 1 end
  if not limits[1].rule.has_costs then return false end
  for meter in pairs(costs_of(n)[limits[1].key] or {}) do
    if limits[1].rule.costs[meter] then return true end
  end
  return false
end

local function is_narrower(one, other)
  local width, other_width = valves.width(one), valves.width(other)
  return width < other_width or (width == other_width and one.key < other.key)
end

-- The narrowest limit that a job of these costs may not pass now; nothing where it may pass all.
local function narrowest_shut(stream, costs)
  local narrowest
  for _, valve in ipairs(limits_of(stream)) do
    if valves.opens_at(valve, costs[valve.key]) > now and not (narrowest and is_narrower(narrowest, valve)) then
      narrowest = valve
    end
  end
  return narrowest
end

local function is_awaited(valve, first)
  if first[3] == 0 then
    valves.put_first(valve, { first[1], first[2], now })
    return true
  end
  if now < first[3] + PATIENCE_S then return true end
  valves.put_first(valve, nil)
  return false
end

-- The stream and the costs of the job for which a limit keeps room now; nothing where it keeps none.
local function kept_for(valve, first)
  local n = first[1]
  local row = rows.of(n)
  local stream = row and gates.is_ready(row) and gates.stream_of(row)
  if not stream or call('SISMEMBER', NS .. 'paused', stream.queue) == 1 then
    valves.put_first(valve, nil)
    return nil
  end
  if is_stopped(stream) then return nil end
  local costs = row.flow and row.flow[3] or {}
  local narrowest = narrowest_shut(stream, costs)
  if not narrowest then
    if is_awaited(valve, first) then return stream, costs end
    return nil
  end
  if first[3] ~= 0 then valves.put_first(valve, { n, first[2], 0 }) end
  if narrowest ~= valve and is_narrower(narrowest, valve) then return nil end
  return stream, costs
end

-- Whether a job is noted in place of another, which it found at a limit.
local function is_before(n, since, valve, first)
  if since < first[2] or (since == first[2] and n < first[1]) then return true end
  if now < first[2] + PATIENCE_S or kept_for(valve, first) then return false end
  return not valve.gauge.first or since + PATIENCE_S <= now
end

-- Whether a limit would have no room left for a job that goes first.
function patience.keeps_back(stream, n)
  local mine, costs = waits_since(stream, n), nil
  for _, valve in ipairs(limits_of(stream)) do
    local first = valve.gauge.first
    local is_other = first and first[1] ~= n and now >= first[2] + PATIENCE_S
    local goes_first = is_other and mine and mine + PATIENCE_S <= now
      and (mine < first[2] or (mine == first[2] and n < first[1]))
    if is_other and not goes_first then
      local other, its = kept_for(valve, first)
      if other and other ~= stream then
        costs = costs or costs_of(n)
        if not valves.leaves_room(valve, costs[valve.key], its[valve.key]) then return true end
      end
    end
  end
  return false
end

-- Notes a job that its limits hold back, and that others may pass.
function patience.note(stream, n)
  if not may_be_passed(stream, n) or is_stopped(stream) then return end
  local since = waits_since(stream, n) or now
  local narrowest = narrowest_shut(stream, costs_of(n))
  for _, valve in ipairs(narrowest and limits_of(stream) or {}) do
    local first = valve.gauge.first
    local is_noted = first and first[1] == n
    if not is_noted and not (narrowest ~= valve and is_narrower(narrowest, valve))
      and (not first or is_before(n, since, valve, first)) then
      valves.put_first(valve, { n, since, 0 })
    end
  end
end

-- Forgets a job that was claimed: when it comes back it waits anew.
function patience.went(stream, n)
  for _, valve in ipairs(limits_of(stream)) do
    local first = valve.gauge.first
    if first and first[1] == n then valves.put_first(valve, nil) end
  end
end

return patience
