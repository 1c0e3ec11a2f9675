-- open: writes the format of a namespace that is empty or older (none for ''), and returns the format that is there.
-- Keys: meta. Work: constant.
-- ARGV: now, format. What format 1 kept is read as it is; who knows that one only would not bear what comes now.
local found = call('HGET', NS .. 'meta', 'format')
if ARGV[2] == '' then return found end
local is_older = found and tonumber(found) and tonumber(found) < tonumber(ARGV[2])
if found and not is_older then return found end
call('HSET', NS .. 'meta', 'format', ARGV[2])
return ARGV[2]
