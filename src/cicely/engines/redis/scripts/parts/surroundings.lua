-- What stands between a job and its start.
local rows, gates, lanes, configuring = use('rows'), use('gates'), use('lanes'), use('configuring')
local surroundings = {}
local SEEN, HOLDERS, PARENTS = 1000, 20, 10

-- How many jobs of an index come before one, up to so many.
local function before(key, rank, n, most)
  local text = string.format('%.17g', rank)
  local jobs = call('ZCOUNT', key, '-inf', '(' .. text)
  if jobs >= most then return most end
  for _, other in ipairs(call('ZRANGEBYSCORE', key, text, text, 'LIMIT', 0, most - jobs)) do
    if other < n then jobs = jobs + 1 end
  end
  return jobs
end

-- The pairs of a queue that have plain ready jobs.
local function plain_pairs(queue)
  return call('ZRANGEBYLEX', NS .. 'work', '[' .. queue .. '|', '(' .. queue .. '}', 'LIMIT', 0, SEEN)
end

local function ahead_of(row)
  local jobs = 0
  local rank = row.waits and row.fence == 0 and 0 or row.rank
  for i, name in ipairs(call('HKEYS', NS .. 'stands:' .. row.queue .. '|' .. row.lane)) do
    if i > SEEN or jobs >= SEEN then break end
    jobs = jobs + before(NS .. 'gated:' .. name, rank, row.n, SEEN - jobs)
  end
  if row.lane ~= '' then return jobs end
  for _, pair in ipairs(plain_pairs(row.queue)) do
    if jobs >= SEEN then break end
    jobs = jobs + before(NS .. 'ready:' .. pair .. '|', rank, row.n, SEEN - jobs)
  end
  return jobs
end

-- The clocks of the lanes of a queue that have ready jobs.
local function busy_lanes(queue)
  local clocks, names, cursor = {}, {}, '0'
  repeat
    local page
    cursor, page = unpack(call('HSCAN', NS .. 'lane:' .. queue, cursor, 'COUNT', SEEN))
    for i = 1, #page, 2 do names[#names + 1] = page[i] end
  until cursor == '0' or #names >= SEEN
  if #names == 0 then names[1] = '' end
  for _, name in ipairs(names) do
    local is_busy = call('EXISTS', NS .. 'stands:' .. queue .. '|' .. name) == 1
    if is_busy or (name == '' and #plain_pairs(queue) > 0) then clocks[name] = lanes.clock(queue, name) end
  end
  return clocks
end

local function holders_of(key)
  local holders = {}
  local found = call('ZRANGE', NS .. 'holders:' .. key, 0, HOLDERS - 1, 'WITHSCORES')
  for i = 1, #found, 2 do
    local n = sub(found[i], 1, 12)
    local run = call('HGET', NS .. 'runs', n)
    local job = run and rows.claimed(n, run)
    if job then holders[#holders + 1] = { job.id, job.session, found[i + 1] } end
  end
  return holders
end

local function parents_of(n)
  local parents = {}
  local links = call('ZRANGE', NS .. 'in:' .. n, 0, SEEN - 1, 'WITHSCORES')
  for i = 1, #links, 2 do
    if #parents < PARENTS and links[i + 1] % 256 < 64 then parents[#parents + 1] = use('graph').id_of(links[i]) end
  end
  return parents
end

-- The open sessions, who uses what of the resources of their workers, and which these are.
local function crews()
  local sessions, users, seen = {}, {}, {}
  for i, id in ipairs(call('ZRANGE', NS .. 'sessions', 0, -1)) do
    local facts = call('HMGET', NS .. 'session:' .. id, 'facts', 'beat', 'joined_at', 'beat_at', 'worker')
    local worker = table.remove(facts)
    facts[5] = call('SCARD', NS .. 'held:' .. id)
    sessions[i] = facts
    local units = seen[worker] and {} or call('HGETALL', NS .. 'units:' .. worker)
    seen[worker] = true
    for j = 1, #units, 2 do
      local run = call('HGET', NS .. 'runs', units[j])
      local job = run and rows.claimed(units[j], run)
      if job then
        users[#users + 1] = { job.session, job.id, string.format('%.17g', job.started_at), units[j + 1] }
      end
    end
  end
  return sessions, users, seen
end

local function valves_of(keys)
  local told, holders = {}, {}
  for i, key in ipairs(keys) do
    local is_breaker = use('valves').is_breaker(key)
    told[i] = configuring.told(is_breaker and 'breaker' or 'limit', is_breaker and sub(key, #'breaker%3A' + 1) or key)
    told[i][6] = key
    holders[i] = holders_of(key)
  end
  return told, holders
end

function surroundings.told(row)
  local clocks, count, behind = busy_lanes(row.queue), 0, 0
  for _, clock in pairs(clocks) do
    count = count + 1
    if clock < (clocks[row.lane] or 0) then behind = behind + 1 end
  end
  local is_gated, is_node = rows.has(row.flags, rows.GATED), rows.has(row.flags, rows.NODE)
  local told, holders = valves_of(is_gated and gates.stream_of(row).keys or {})
  local sessions, users, workers = crews()
  return {
    string.format('%.17g', now), call('SISMEMBER', NS .. 'paused', row.queue),
    is_node and call('HGET', NS .. 'w:' .. row.n, 'held') == '1' and 1 or 0, ahead_of(row), math.min(SEEN, count),
    math.min(SEEN, behind), told, holders, is_node and parents_of(row.n) or {}, sessions, users,
    call('EXISTS', NS .. 'reserved') == 1 and use('reservations').all() or {},
    is_gated and use('resources').kept_from(row, workers) or {},
  }
end

return surroundings
