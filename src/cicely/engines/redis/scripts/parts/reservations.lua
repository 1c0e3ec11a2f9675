-- What workflows have reserved on workers: the same rules as core/reservations.py.
--
-- `reserved` lists them, as workflow, '\0' and worker. `reserved:<worker>` has each by its workflow: the job that began
-- it, since when, its units, and what the worker offered then. `drawn:<worker>` has what running jobs draw, by n: of
-- which workflow, and the resources. A ready job that draws stands in a class of its own: in place of whom it shuns,
-- that names DRAWS and the workflow.
local resources = use('resources')
local reservations = { DRAWS = '\1' }
local EVERYTHING = ''
-- So many jobs are looked at in a call, to know which workflows have live ones.
local MOST_LOOKED_AT = 2048
local crews = {}
local has_any

function reservations.are_there()
  if has_any == nil then has_any = call('EXISTS', NS .. 'reserved') == 1 end
  return has_any
end

local function added(sums, units)
  for unit, amount in pairs(units) do sums[unit] = (sums[unit] or 0) + amount end
end

-- What running jobs draw on a worker, by workflow, resource and unit.
local function used_on(worker)
  local drawn, used, ns = call('HGETALL', NS .. 'drawn:' .. worker), {}, {}
  for i = 1, #drawn, 2 do ns[#ns + 1] = drawn[i] end
  for i, packed in ipairs(read_all(NS .. 'units:' .. worker, ns)) do
    local names, units = cmsgpack.unpack(drawn[2 * i]), packed and cmsgpack.unpack(packed) or {}
    local of = used[names[1]] or {}
    used[names[1]] = of
    for j = 2, #names do
      of[names[j]] = of[names[j]] or {}
      added(of[names[j]], units[names[j]] or {})
    end
  end
  return used
end

-- The reservations on a worker, by workflow.
local function on(worker)
  local crew = crews[worker]
  if crew then return crew end
  crew = {}
  crews[worker] = crew
  local kept = call('HGETALL', NS .. 'reserved:' .. worker)
  local used = #kept > 0 and used_on(worker)
  for i = 1, #kept, 2 do
    local _, job_id, since, units, offers = limit(kept[i + 1], 4)
    crew[kept[i]] = {
      workflow = kept[i], worker = worker, job_id = job_id, since = since, units = units, offers = offers,
      used = used[kept[i]] or {},
    }
  end
  return crew
end

-- What is drawn on a worker has changed.
function reservations.look_again(worker)
  crews[worker] = nil
end

-- The reservations of a workflow.
local function of(workflow)
  if workflow == '' or not reservations.are_there() then return {} end
  local some, from = {}, '[' .. workflow .. '\0'
  for _, name in ipairs(call('ZRANGEBYLEX', NS .. 'reserved', from, '(' .. workflow .. '\1')) do
    some[#some + 1] = on(sub(name, #workflow + 2))[workflow]
  end
  return some
end

local function is_any_wanted(wants, one)
  for _, want in ipairs(wants) do
    if one.units[want[1]] then return true end
  end
  return false
end

-- Whether a workflow has reserved any of what a job wants.
local function has_some_for(workflow, wants)
  for _, one in ipairs(of(workflow)) do
    if is_any_wanted(wants, one) then return true end
  end
  return false
end

-- --- for a claim -------------------------------------------------------------------------
local function left_of(one)
  local left = {}
  for name, units in pairs(one.units) do
    local used = one.used[name] or {}
    left[name] = {}
    for unit, amount in pairs(units) do left[name][unit] = math.max(0, amount - (used[unit] or 0)) end
  end
  return left
end

-- What is reserved on a worker and drawn by no job, as some amounts.
function reservations.left_on(worker)
  local some = {}
  if not reservations.are_there() then return some end
  for _, one in pairs(on(worker)) do some[#some + 1] = left_of(one) end
  return some
end

-- Which of the resources that a job wants come out of a reservation; none where it is not enough.
local function drawn(wants, one)
  local names, reserved = {}, {}
  for _, want in ipairs(wants) do
    if one.units[want[1]] then
      names[#names + 1] = want[1]
      reserved[#reserved + 1] = want
    end
  end
  if #names == 0 or not resources.place(reserved, one.units, one.offers)
    or not resources.place(wants, one.offers, one.offers) then return nil end
  return names
end

-- The reservations of which jobs of a class draw, by worker; nothing where they are placed anywhere.
function reservations.drawn_by(class)
  local some = {}
  for _, one in ipairs(class.draws and of(class.draws) or {}) do
    if drawn(class.wants, one) then some[one.worker] = one end
  end
  return next(some) and some
end

-- The units that a job gets of a reservation and of what else is left, and of which resources it draws.
function reservations.place(wants, left, offers, one)
  local names, reserved = drawn(wants, one), left_of(one)
  local from, at_first = {}, {}
  for name, units in pairs(left) do from[name] = units end
  for name, units in pairs(offers) do at_first[name] = units end
  for _, name in ipairs(names) do from[name], at_first[name] = reserved[name], one.offers[name] end
  return resources.place(wants, from, at_first), names
end

-- Notes that a job draws these of its units; returns the others.
function reservations.draw(one, names, units)
  local others = {}
  for name, amounts in pairs(units) do others[name] = amounts end
  for _, name in ipairs(names) do
    one.used[name] = one.used[name] or {}
    added(one.used[name], units[name])
    others[name] = nil
  end
  return others
end

-- --- for those that become ready ---------------------------------------------------------
-- What a job names in place of whom it shuns, where its workflow has reserved any of what it wants.
function reservations.draws(workflow, wants)
  return has_some_for(workflow, wants) and reservations.DRAWS .. workflow or nil
end

-- Has a job that becomes ready draw what its workflow has reserved.
function reservations.bind(row, wants)
  local was = row.shuns
  if sub(was, 1, 1) == reservations.DRAWS then row.shuns = '' end
  local workflow = reservations.are_there() and call('HGET', NS .. 'w:' .. row.n, 'workflow')
  row.shuns = workflow and reservations.draws(workflow, wants) or row.shuns
  if row.shuns ~= was then call('SET', NS .. 'j:' .. row.n, use('rows').record(row)) end
end

-- The same of one that may be ready by now.
function reservations.bind_ready(n, workflow)
  local gates, rows = use('gates'), use('rows')
  local row = rows.of(n)
  if not row or not rows.has(row.flags, rows.GATED) or sub(row.shuns, 1, 1) == reservations.DRAWS then return end
  if not has_some_for(workflow, gates.stream_of(row).class.wants) or not gates.is_ready(row) then return end
  gates.remove(row)
  gates.add(row)
end

-- --- beginning and ending ----------------------------------------------------------------
local function put(one)
  local key, name = NS .. 'reserved:' .. one.worker, one.workflow .. '\0' .. one.worker
  crews[one.worker], has_any = nil, nil
  if next(one.units) then
    call('HSET', key, one.workflow, pack(one.job_id, one.since, one.units, one.offers))
    call('ZADD', NS .. 'reserved', 0, name)
  else
    call('HDEL', key, one.workflow)
    call('ZREM', NS .. 'reserved', name)
    call('HDEL', NS .. 'reserved_seen', one.workflow)
  end
end

local function keep(job, workflow, names)
  local worker, units = job.passed[3], job.passed[6]
  local one = on(worker)[workflow]
  local drew, is_drawn, has_fresh = call('HGET', NS .. 'drawn:' .. worker, job.n), {}, false
  local drawn_names = drew and cmsgpack.unpack(drew) or {}
  for i = 2, #drawn_names do is_drawn[drawn_names[i]] = true end
  if not one then
    local offers = use('resources').gear({ id = job.session })
    one = { workflow = workflow, worker = worker, job_id = job.id, since = now, units = {}, offers = offers }
  end
  for _, name in ipairs(names) do
    if units[name] and not is_drawn[name] then
      one.units[name] = one.units[name] or {}
      added(one.units[name], units[name])
      is_drawn[name], has_fresh = true, true
    end
  end
  if not has_fresh then return end
  put(one)
  use('agenda').push_late({ kind = 'bind', n = '@' .. workflow, cursor = '0', cause = '', reason = '' })
end

-- Running jobs of a workflow draw nothing more of these: what they have is theirs.
local function draw_no_more(worker, workflow, is_freed)
  local found = call('HGETALL', NS .. 'drawn:' .. worker)
  for i = 1, #found, 2 do
    local names = cmsgpack.unpack(found[i + 1])
    local others = { workflow }
    for j = 2, #names do
      if not is_freed[names[j]] and not is_freed[EVERYTHING] then others[#others + 1] = names[j] end
    end
    if names[1] == workflow and #others == 1 then
      call('HDEL', NS .. 'drawn:' .. worker, found[i])
    elseif names[1] == workflow then
      call('HSET', NS .. 'drawn:' .. worker, found[i], pack(others))
    end
  end
end

local function free(workflow, names)
  local is_freed = {}
  for _, name in ipairs(names) do is_freed[name] = true end
  for _, one in ipairs(of(workflow)) do
    draw_no_more(one.worker, workflow, is_freed)
    for name in pairs(one.units) do
      if is_freed[name] or is_freed[EVERYTHING] then one.units[name] = nil end
    end
    put(one)
  end
end

-- Ends what an outcome frees, then keeps what its job leaves to its workflow: before that ends.
function reservations.heed(job, keeps, frees)
  local rows = use('rows')
  local workflow = rows.has(job.flags, rows.MEMBER) and call('HGET', NS .. 'w:' .. job.n, 'workflow')
  if not workflow then return end
  if frees and #frees > 0 then free(workflow, frees) end
  if keeps and job.passed and job.passed[6] then keep(job, workflow, keeps) end
end

-- Ends those on a worker that has no open session any more.
function reservations.leave(worker)
  local kept = call('HKEYS', NS .. 'reserved:' .. worker)
  if #kept == 0 then return end
  for _, id in ipairs(call('ZRANGE', NS .. 'sessions', 0, -1)) do
    if call('HGET', NS .. 'session:' .. id, 'worker') == worker then return end
  end
  for _, workflow in ipairs(kept) do
    call('ZREM', NS .. 'reserved', workflow .. '\0' .. worker)
    call('HDEL', NS .. 'reserved_seen', workflow)
  end
  call('UNLINK', NS .. 'reserved:' .. worker, NS .. 'drawn:' .. worker)
  crews[worker], has_any = nil, nil
end

-- Whether a workflow has a job that has not ended; also where there is no more time to look. `seen` says how far it
-- was looked at: those before that have ended, and who comes back is looked at again.
local function is_over(workflow, looks)
  local cursor = call('HGET', NS .. 'reserved_seen', workflow) or '0'
  while looks.left > 0 do
    local ns = call('ZRANGEBYSCORE', NS .. 'of:' .. workflow, '(' .. cursor, '+inf', 'LIMIT', 0, math.min(256, looks.left))
    if #ns == 0 then
      call('HDEL', NS .. 'reserved_seen', workflow)
      return true
    end
    for _, n in ipairs(ns) do
      if use('graph').is_live(n) then
        call('HSET', NS .. 'reserved_seen', workflow, cursor)
        return false
      end
      cursor = n
    end
    looks.left = looks.left - #ns
  end
  call('HSET', NS .. 'reserved_seen', workflow, cursor)
  return false
end

-- Ends at most so many of workflows of which no job is live; returns whether to look on.
function reservations.end_some(most)
  local ended, looks, over = 0, { left = MOST_LOOKED_AT }, {}
  for _, name in ipairs(call('ZRANGE', NS .. 'reserved', 0, -1)) do
    local workflow, worker = string.match(name, '^(.*)%z(.*)$')
    if over[workflow] == nil then over[workflow] = is_over(workflow, looks) end
    if over[workflow] then
      put({ workflow = workflow, worker = worker, units = {} })
      ended = ended + 1
    end
    if ended == most or looks.left <= 0 then return true end
  end
  return false
end

-- A job of a workflow is back.
function reservations.comes_back(workflow)
  call('HDEL', NS .. 'reserved_seen', workflow)
end

-- All, as clients are told of them.
function reservations.all()
  local some = {}
  for _, name in ipairs(call('ZRANGE', NS .. 'reserved', 0, -1)) do
    local workflow, worker = string.match(name, '^(.*)%z(.*)$')
    local one = on(worker)[workflow]
    some[#some + 1] = pack({ workflow, worker, one.job_id, one.since, one.units, one.used, one.offers })
  end
  return some
end

return reservations
