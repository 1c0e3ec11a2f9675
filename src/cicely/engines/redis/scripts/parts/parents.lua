-- How the parents of a job stand.
local rows = use('rows')
local parents = {}
local INLINE = use('rules').inline_parents
local LAST = tostring(INLINE - 1)
local byte = string.byte
-- How ends of successes begin, and what those end with whose result lies apart.
local SUCCEEDED, LARGE = pack('succeeded'), pack(1) .. rows.bin('') .. rows.bin('')

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

-- What goes with a parent that has succeeded, where nothing has to be looked up for it: its id, its edge and its
-- end, for the client to read. Nothing of another one.
local function as_it_is(score, record, ended)
  if not record or not ended or sub(ended, 1, #SUCCEEDED) ~= SUCCEEDED or sub(ended, -#LARGE) == LARGE then return end
  local a, b, c, d, e, kind, size = byte(record, 1, 7)
  if not size or a > 127 or b > 127 or c > 127 or d > 127 or e > 127 then return end
  if kind == 217 then return { sub(record, 8, 7 + size), score, ended } end
  if kind > 160 and kind < 192 then return { sub(record, 7, kind - 154), score, ended } end
end

-- What goes with some claims, five values for each: which of the claims it is of; workflow, group and how many
-- parents; the parents where they are few; how many steps; units.
function parents.with_claims(claims)
  local reply, keys = {}, {}
  for _, claim in ipairs(claims) do
    local n, flags, size = claim.n, claim.flags, #reply
    local node = rows.has(flags, rows.NODE) and call('HMGET', NS .. 'w:' .. n, 'workflow', 'group', 'joins')
    local joins = node and tonumber(node[3] or 0) or 0
    if joins > 0 and joins <= INLINE then
      claim.links, claim.from = call('ZRANGE', NS .. 'in:' .. n, '0', LAST, 'WITHSCORES'), #keys
      for i = 1, #claim.links, 2 do
        keys[#keys + 1], keys[#keys + 2] = NS .. 'j:' .. claim.links[i], NS .. 'd:' .. claim.links[i]
      end
    end
    reply[size + 1], reply[size + 2], reply[size + 3] = claim.at, node, false
    reply[size + 4] = rows.has(flags, rows.STEPS) and call('LLEN', NS .. 'o:' .. n)
    reply[size + 5] = claim.units
  end
  local said = read_all(nil, keys)
  for place, claim in ipairs(claims) do
    local few, links = {}, claim.links
    for i = 1, links and #links or 0, 2 do
      local record, ended = said[claim.from + i], said[claim.from + i + 1]
      few[#few + 1] = as_it_is(links[i + 1], record, ended) or told(links[i], tonumber(links[i + 1]), record, ended)
    end
    if links then reply[5 * place - 2] = few end
  end
  return reply
end

return parents
