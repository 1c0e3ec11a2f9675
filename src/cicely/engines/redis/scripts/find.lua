-- find: reads one page of jobs, newest first, from the narrowest index there is.
-- Keys: tag:<tag>, of:<workflow>, grp:<group>, ended:<state>, runs, blocks, j:<n>, d:<n>, l:<n>, w:<n>. Work: `size` jobs; along all jobs,
-- 1,000 numbers are tried; of running ones, up to 5,000 are put in order.
-- ARGV: now, before (a number of twelve digits), size, then 'all', or any of 'tag:<tag>', 'of:<workflow>',
-- 'grp:<group>', 'ended:<state>' and 'runs'.
-- Returns the last number that was looked at or '', whether there is more, then for each job its n, record,
-- claim, end, progress, error and what its node says.
local BLOCK = 1000
local BLOCK_DIGITS = 9
local MOST_RUNNING = 5000
local before, size = ARGV[2], tonumber(ARGV[3])

-- Along all numbers; blocks of them that have no jobs are passed over.
local function of_all()
  local ns, tried = {}, 0
  local page = call('ZREVRANGEBYLEX', NS .. 'blocks', '[' .. sub(before, 1, BLOCK_DIGITS), '-', 'LIMIT', 0, 2)
  for _, block in ipairs(page) do
    for i = BLOCK - 1, 0, -1 do
      local n = block .. string.format('%03d', i)
      if n < before then
        tried = tried + 1
        if call('EXISTS', NS .. 'j:' .. n) == 1 then ns[#ns + 1] = n end
        if #ns == size or tried == BLOCK then return ns, n, true end
      end
    end
  end
  return ns, '', false
end

local function of_index(name)
  if name ~= 'runs' then
    return call('ZREVRANGEBYSCORE', NS .. name, '(' .. before, '-inf', 'LIMIT', 0, size)
  end
  local ns = {}
  for _, n in ipairs(call('HKEYS', NS .. 'runs')) do
    if n < before then ns[#ns + 1] = n end
  end
  return ns
end

local function of_indexes()
  local ns = {}
  for i = 4, #ARGV do
    for _, n in ipairs(of_index(ARGV[i])) do ns[#ns + 1] = n end
  end
  table.sort(ns, function(a, b) return a > b end)
  local has_more = #ns >= size
  while #ns > size do table.remove(ns) end
  return ns, ns[#ns] or '', has_more
end

local ns, last, has_more
if ARGV[4] == 'all' or (call('HLEN', NS .. 'runs') > MOST_RUNNING and table.concat(ARGV, ' ', 4):find('runs', 1, true)) then
  ns, last, has_more = of_all()
else
  ns, last, has_more = of_indexes()
end
local reply = { last, has_more and 1 or 0 }
for _, n in ipairs(ns) do
  local record = call('GET', NS .. 'j:' .. n)
  if record then
    local left = call('HMGET', NS .. 'l:' .. n, 'progress', 'error')
    local size_now = #reply
    reply[size_now + 1], reply[size_now + 2] = n, record
    reply[size_now + 3], reply[size_now + 4] = use('told').run(call('HGET', NS .. 'runs', n)), call('GET', NS .. 'd:' .. n)
    reply[size_now + 5], reply[size_now + 6] = left[1], left[2]
    reply[size_now + 7] = use('node').told(n, record)
  end
end
return reply
