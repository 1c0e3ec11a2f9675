-- How the parents of a job stand.
local rows = use('rows')
local parents = {}
local INLINE = use('rules').inline_parents

local function error_of(n)
  local ended = n and call('GET', NS .. 'd:' .. n)
  if ended then return select(2, rows.read_bin(ended, (limit(ended, 14)))) end
  return n and call('HGET', NS .. 'l:' .. n, 'error') or ''
end

local function state_of(n, row)
  if call('HEXISTS', NS .. 'runs', n) == 1 then return 'running' end
  return row.waits and 'waiting' or row.due_at and 'scheduled' or 'ready'
end

local function ended_of(n, ended)
  local before, state, _, _, _, _, _, _, _, _, _, _, _, _, large = limit(ended, 14)
  local after, error = rows.read_bin(ended, before)
  local _, result = rows.read_bin(ended, after)
  return state, error, large == 1 and call('GET', NS .. 'r:' .. n) or result
end

-- The id of a parent that has succeeded, which is read without the rest of its record; nil for a damaged one.
local function id_in(record)
  local is_read, _, _, _, _, _, _, id = pcall(limit, record, 6)
  return is_read and type(id) == 'string' and id or nil
end

-- Returns id, traits, state, error, result, cause, is_gone.
local function told(n, score, record, ended)
  local traits, state, error, result = score % 64, nil, nil, ''
  if ended then state, error, result = ended_of(n, ended) end
  local id = state == 'succeeded' and record and id_in(record)
  -- Only who was cancelled has a cause.
  if id then return { id, traits, state, error, result, '', 0 } end
  local row = rows.of(n)
  if not row then return { call('HGET', NS .. 'gone', n) or '', traits, 'succeeded', '', '', '', 1 } end
  if not ended then state, error = state_of(n, row), error_of(n) end
  local cause = rows.has(row.flags, rows.NODE) and call('HGET', NS .. 'w:' .. n, 'cause') or ''
  if cause ~= '' then
    local origin = call('HGET', NS .. 'ids', cause)
    if origin and origin ~= 'tomb' then error = error_of(origin) end
  end
  return { row.id, traits, state, error, result, cause, 0 }
end

function parents.list(n, after, count)
  local links, keys = call('ZRANGE', NS .. 'in:' .. n, after, after + count - 1, 'WITHSCORES'), {}
  for i = 1, #links, 2 do keys[i], keys[i + 1] = NS .. 'j:' .. links[i], NS .. 'd:' .. links[i] end
  local said, told_of = read_all(nil, keys), {}
  for i = 1, #links, 2 do
    told_of[#told_of + 1] = told(links[i], tonumber(links[i + 1]), said[i], said[i + 1])
  end
  return told_of
end

-- What goes with a claim: workflow, group, how many parents and how many steps in one; the parents where they
-- are few.
function parents.with_claim(n, flags)
  local steps = rows.has(flags, rows.STEPS) and call('LLEN', NS .. 'o:' .. n) or 0
  if not rows.has(flags, rows.NODE) then return pack('', '', 0, steps), false end
  local workflow, group, joins = unpack(call('HMGET', NS .. 'w:' .. n, 'workflow', 'group', 'joins'))
  joins = tonumber(joins or 0)
  local few = joins > 0 and joins <= INLINE and parents.list(n, 0, INLINE)
  return pack(workflow or '', group or '', joins, steps), few
end

return parents
