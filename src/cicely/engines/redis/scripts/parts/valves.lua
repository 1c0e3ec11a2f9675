-- Valves: the limits and breakers that claims pass, by their keys (percent-encoded, as everywhere). The same rules as
-- core/limits.py and core/breaker.py, which the machine of random verbs compares.
--
-- `gauges` has where each stands: when its meters are full again, shut_until, ceiling, ceiling_at, failures, opened_at,
-- probed_from, and who waits for it first (see the part `patience`); nothing while it stands as if it were new. `holders:<key>` has who holds it since when: n of a claim, and behind it
-- ':' and the request of what a running job acquired. What a call changes is written once, by `write`.
local valves = { NEVER = math.huge, PATIENCE_S = 60 }
local NEVER = math.huge
local BREAKER = 'breaker%3A'
local BURST_SHARE, CUT, CUT_COOLDOWN_S, REGROWTH = 0.03, 0.8, 15, 0.1
-- What was rounded off is looked at again after so long.
local LEAST_S = 0.001
local NOW = string.format('%.17g', now)
local known, noted = {}, {}

function valves.is_breaker(key)
  return sub(key, 1, #BREAKER) == BREAKER
end

local function rule_of(key)
  if valves.is_breaker(key) then
    local kept = call('HGET', NS .. 'set:breaker', sub(key, #BREAKER + 1))
    return kept and cmsgpack.unpack(kept) or { failures = 5, within_s = 60, cooldown_s = 60 }
  end
  local kept = call('HGET', NS .. 'set:limit', key)
  local rule = kept and cmsgpack.unpack(kept) or {}
  rule.meters = {}
  for meter, rate in pairs(rule.costs or {}) do
    rule.meters[meter] = rate
    rule.has_costs = true
  end
  if rule.rate then rule.meters[''] = rule.rate end
  rule.has_meters = next(rule.meters) ~= nil
  return rule
end

local function gauge_of(key)
  local kept = call('HGET', NS .. 'gauges', key)
  local full_at, shut_until, ceiling, ceiling_at, failures, opened_at, probed_from, first =
    unpack(kept and cmsgpack.unpack(kept) or {})
  if first and now >= first[2] + valves.PATIENCE_S then valves.may_keep_room = true end
  return {
    first = first, full_at = full_at or {}, shut_until = shut_until or 0, ceiling = ceiling or 0, ceiling_at = ceiling_at or 0,
    failures = failures or {}, opened_at = opened_at or 0, probed_from = probed_from or 0,
  }
end

-- A valve as it stands in this call.
function valves.of(key)
  local valve = known[key]
  if not valve then
    valve = {
      key = key, is_breaker = valves.is_breaker(key), rule = rule_of(key), gauge = gauge_of(key), begun = {}, gone = {},
      gone_since = {},
    }
    valve.opened_at = valve.gauge.opened_at
    known[key] = valve
  end
  return valve
end

-- How many hold it that began at `since` or later.
local function held_since(valve, since)
  if since > 0 then
    local held = call('ZCOUNT', NS .. 'holders:' .. valve.key, since, '+inf') + #valve.begun / 2
    for _, at in ipairs(valve.gone_since) do
      if at >= since then held = held - 1 end
    end
    return held
  end
  valve.held = valve.held or call('ZCARD', NS .. 'holders:' .. valve.key)
  return valve.held + #valve.begun / 2 - #valve.gone
end

valves.held_since = held_since

-- --- may it pass? ------------------------------------------------------------------------
local function ceiling(rule, gauge)
  local most = rule.concurrency or NEVER
  if gauge.ceiling == 0 then return most end
  local grown = gauge.ceiling
    + math.max(1, REGROWTH * gauge.ceiling) * math.max(0, now - gauge.ceiling_at) / CUT_COOLDOWN_S
  if grown >= 2 * gauge.ceiling + 1 then return most end
  return math.min(most, math.floor(grown))
end

local function bucket(meter, rate)
  local holds = BURST_SHARE * rate.amount
  if meter ~= '' then return holds, (rate.amount - holds) / rate.period_s end
  holds = math.max(1, holds)
  return holds, (rate.amount - holds + 1) / rate.period_s
end

local function cost_of(cost, meter)
  if meter == '' then return 1 end
  return cost and cost[meter] or 0
end

-- When a limit opens whatever a job costs; now where that depends on the cost.
local function limit_opens_at(valve)
  local rule, gauge = valve.rule, valve.gauge
  if gauge.shut_until > now then return gauge.shut_until end
  local most = ceiling(rule, gauge)
  if most < NEVER and held_since(valve, 0) >= most then return NEVER end
  return now
end

local function breaker_opens_at(valve)
  local gauge = valve.gauge
  if gauge.opened_at == 0 then return now end
  if gauge.shut_until > now then return gauge.shut_until end
  return held_since(valve, gauge.shut_until) > 0 and NEVER or now
end

-- When a job of this cost may pass: now if at once, NEVER if only a release can tell.
function valves.opens_at(valve, cost)
  if valve.is_breaker then return breaker_opens_at(valve) end
  local at = limit_opens_at(valve)
  if at > now or not valve.rule.has_meters then return at end
  for meter, rate in pairs(valve.rule.meters) do
    local holds, per_s = bucket(meter, rate)
    local opens_at = (valve.gauge.full_at[meter] or 0) - math.max(0, holds - cost_of(cost, meter)) / per_s
    if opens_at > at then at = opens_at end
  end
  return at
end

-- How many may hold a limit at once.
function valves.width(valve)
  return ceiling(valve.rule, valve.gauge)
end

-- Whether a job of the cost `other` may still pass a limit after one of this cost has.
function valves.leaves_room(valve, cost, other)
  local rule, gauge = valve.rule, valve.gauge
  if gauge.shut_until > now or held_since(valve, 0) + 1 >= ceiling(rule, gauge) then return false end
  for meter, rate in pairs(rule.meters) do
    local holds, per_s = bucket(meter, rate)
    local full_at = math.max(now, gauge.full_at[meter] or 0) + cost_of(cost, meter) / per_s
    if full_at - math.max(0, holds - cost_of(other, meter)) / per_s > now then return false end
  end
  return true
end

-- When a ceiling that bounds a limit has grown by one more than hold it; NEVER where another bound holds them back.
local function grows_at(valve)
  local rule, gauge = valve.rule, valve.gauge
  local next_one = held_since(valve, 0) + 1
  if gauge.ceiling == 0 or next_one > (rule.concurrency or NEVER) then return NEVER end
  local growth = math.min(next_one, 2 * gauge.ceiling + 1) - gauge.ceiling
  local at = gauge.ceiling_at + growth / math.max(1, REGROWTH * gauge.ceiling) * CUT_COOLDOWN_S
  return math.max(at, now + LEAST_S)
end

-- Until when it holds back every job, whatever that costs; now where some may pass.
function valves.shut_until(valve)
  if valve.is_breaker then return breaker_opens_at(valve) end
  local at = valve.rule.has_costs and limit_opens_at(valve) or valves.opens_at(valve)
  return at == NEVER and grows_at(valve) or at
end

-- --- what passes, and what comes back ----------------------------------------------------
-- `sign` is 1 for what passes and -1 for what comes back unused.
local function pour(valve, cost, sign)
  if valve.is_breaker or not valve.rule.has_meters then return end
  local full_at = valve.gauge.full_at
  for meter, rate in pairs(valve.rule.meters) do
    local _, per_s = bucket(meter, rate)
    local before = full_at[meter] or 0
    if sign > 0 and before < now then before = now end
    full_at[meter] = before + sign * cost_of(cost, meter) / per_s
  end
  valve.has_moved = true
end

function valves.reserve(valve, cost)
  pour(valve, cost, 1)
end

function valves.give_back(valve, cost)
  pour(valve, cost, -1)
end

function valves.correct(valve, cost, spent)
  if valve.is_breaker or not valve.rule.has_costs then return end
  for meter, amount in pairs(spent) do
    local rate = valve.rule.costs[meter]
    if rate then
      local _, per_s = bucket(meter, rate)
      local full_at = valve.gauge.full_at
      full_at[meter] = (full_at[meter] or 0) + (amount - cost_of(cost, meter)) / per_s
      valve.has_moved = true
    end
  end
end

-- The other side refused a call: nothing for a while, then fewer at once.
function valves.refuse(valve, retry_after_s)
  if valve.is_breaker then return end
  local gauge = valve.gauge
  local shut_until = math.max(gauge.shut_until, now + retry_after_s)
  if gauge.ceiling == 0 or now >= gauge.ceiling_at + CUT_COOLDOWN_S then
    local ran = math.min(ceiling(valve.rule, gauge), math.max(held_since(valve, 0), 1))
    gauge.ceiling, gauge.ceiling_at = math.max(1, CUT * ran), shut_until
  end
  gauge.shut_until = shut_until
  valve.has_moved = true
end

-- Since when a breaker that is not closed has let nothing pass but probes.
local function probed_from(gauge)
  return gauge.probed_from > 0 and gauge.probed_from or gauge.shut_until
end

local function open(valve, since)
  valve.gauge = {
    full_at = {}, shut_until = now + valve.rule.cooldown_s, ceiling = 0, ceiling_at = 0, failures = {}, opened_at = now,
    probed_from = since or 0,
  }
end

local function close(valve)
  valve.gauge = {
    full_at = {}, shut_until = 0, ceiling = 0, ceiling_at = 0, failures = {}, opened_at = 0, probed_from = 0,
  }
end

-- Whether a job that still runs was let through as a probe, before or after it may have failed.
function valves.was_probe(valve, claimed_at)
  return valve.gauge.opened_at > 0 and claimed_at >= probed_from(valve.gauge)
end

-- Tells a breaker of an end that counts: of a failure that blames it, or of any other.
function valves.tell(valve, is_to_blame, claimed_at)
  local gauge = valve.gauge
  local is_open = gauge.opened_at ~= 0 and gauge.shut_until > now
  local probes = gauge.opened_at ~= 0 and not is_open
  if not is_to_blame then
    if not (probes and claimed_at >= gauge.shut_until) then return end
    close(valve)
  elseif is_open then
    return
  elseif probes then
    open(valve, probed_from(gauge))
  else
    local recent = {}
    for _, at in ipairs(gauge.failures) do
      if at > now - valve.rule.within_s then recent[#recent + 1] = at end
    end
    recent[#recent + 1] = now
    if #recent >= valve.rule.failures then
      open(valve)
    else
      gauge.failures, gauge.opened_at, gauge.shut_until = recent, 0, 0
    end
  end
  valve.has_moved = true
end

-- A person trips or resets a breaker; returns whether that changed anything.
function valves.turn(valve, move)
  local gauge = valve.gauge
  if move == 'reset' then
    if gauge.opened_at == 0 and #gauge.failures == 0 and gauge.shut_until == 0 then return false end
    close(valve)
  else
    if gauge.shut_until == NEVER then return false end
    open(valve, probed_from(gauge))
    valve.gauge.shut_until = NEVER
  end
  valve.has_moved = true
  return true
end

-- Notes who holds a valve since now.
function valves.hold(valve, name)
  valve.begun[#valve.begun + 1], valve.begun[#valve.begun + 2] = NOW, name
end

function valves.let_loose(valve, name, since)
  valve.gone[#valve.gone + 1] = name
  valve.gone_since[#valve.gone_since + 1] = since
end

-- Tells of a breaker that has opened or closed in this call.
local function tell_of(valve)
  local opened_at, was = valve.gauge.opened_at, valve.opened_at
  if not valve.is_breaker or opened_at == was then return end
  local name, kind = sub(valve.key, #BREAKER + 1), opened_at ~= 0 and 'breaker.opened' or 'breaker.closed'
  use('past').tell(kind, name, valve.gauge.shut_until == NEVER and 'tripped' or '')
  use('past').write()
  valve.opened_at = opened_at
end

local function write_gauge(valve)
  local gauge = valve.gauge
  if next(gauge.full_at) == nil and gauge.shut_until == 0 and gauge.ceiling == 0 and gauge.ceiling_at == 0
    and #gauge.failures == 0 and gauge.opened_at == 0 and not gauge.first then
    call('HDEL', NS .. 'gauges', valve.key)
    return
  end
  call(
    'HSET', NS .. 'gauges', valve.key,
    cmsgpack.pack({
      gauge.full_at, gauge.shut_until, gauge.ceiling, gauge.ceiling_at, gauge.failures, gauge.opened_at,
      gauge.probed_from, gauge.first,
    })
  )
end

-- Notes who waits for a limit; when it opens for others does not change with that.
function valves.put_first(valve, first)
  valve.gauge.first = first
  if first and now >= first[2] + valves.PATIENCE_S then valves.may_keep_room = true end
  noted[#noted + 1] = valve
end

function valves.write_noted()
  if #noted == 0 then return end
  for _, valve in ipairs(noted) do write_gauge(valve) end
  noted = {}
end

-- Writes what changed, and opens or shuts the gates of these keys.
function valves.write()
  for _, valve in pairs(known) do
    local is_freed = #valve.gone > 0
    local has_changed = valve.has_moved or is_freed or #valve.begun > 0
    if is_freed then many('ZREM', NS .. 'holders:' .. valve.key, valve.gone) end
    if #valve.begun > 0 then many('ZADD', NS .. 'holders:' .. valve.key, valve.begun) end
    if valve.held then valve.held = valve.held + #valve.begun / 2 - #valve.gone end
    if valve.has_moved then
      write_gauge(valve)
      tell_of(valve)
    end
    if is_freed or #valve.begun > 0 then valve.begun, valve.gone, valve.gone_since = {}, {}, {} end
    valve.has_moved = false
    if has_changed then use('gates').reconsider(valve) end
  end
end

return valves
