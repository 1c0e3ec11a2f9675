-- unset: forgets a setting.
-- Keys: set:<kind>, meta, history, gates:<class>, gate:<key>, openings, and those of a ring. Work: constant.
-- ARGV: now, kind, name. Returns 1 where it was known.
local was_known = call('HDEL', NS .. 'set:' .. ARGV[2], ARGV[3])
if was_known == 1 then
  use('configuring').tell(ARGV[2], ARGV[3], 'removed')
  use('past').write()
end
use('configuring').reconsider(ARGV[2], ARGV[3])
ring()
return was_known
