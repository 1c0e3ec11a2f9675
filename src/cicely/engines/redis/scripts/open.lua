-- open: writes the format of a namespace that is empty or older (none for ''), and returns the format that is there;
-- 'more' where a call is to follow, because what is older is brought in line in pages.
-- Keys: meta, work, lanes:<pair>, ready:<pair>|<lane>, and those of a job that becomes ready. Work: 500 jobs.
-- ARGV: now, format. What format 1 kept is read as it is. Format 2 kept ready jobs with a lane beside the plain ones.
local MOST = 500
local found = call('HGET', NS .. 'meta', 'format')
if ARGV[2] == '' then return found end
local is_older = found and tonumber(found) and tonumber(found) < tonumber(ARGV[2])
if found and not is_older then return found end

-- Moves the jobs of a lane to where they stand now; returns how many.
local function move(pair, lane, most)
  local key, moved = NS .. 'ready:' .. pair .. '|' .. lane, 0
  for _, n in ipairs(call('ZRANGE', key, 0, most - 1)) do
    call('ZREM', key, n)
    local row = use('rows').of(n)
    if row then
      call('SET', NS .. 'j:' .. n, use('rows').record(row))
      use('ready').add(row)
    end
    moved = moved + 1
  end
  return moved
end

local left = MOST
for _, pair in ipairs(found and call('ZRANGE', NS .. 'work', 0, -1) or {}) do
  for _, lane in ipairs(call('ZRANGE', NS .. 'lanes:' .. pair, 0, MOST)) do
    if left > 0 and lane ~= '' then
      local moved = move(pair, lane, left)
      if moved < left then call('ZREM', NS .. 'lanes:' .. pair, lane) end
      left = left - moved
    elseif left > 0 then
      call('ZREM', NS .. 'lanes:' .. pair, lane)
    end
  end
  if left > 0 and call('EXISTS', NS .. 'ready:' .. pair .. '|') == 0 then call('ZREM', NS .. 'work', pair) end
end
use('ready').write()
if left <= 0 then return 'more' end
call('HSET', NS .. 'meta', 'format', ARGV[2])
return ARGV[2]
