-- drop_schedule: forgets a schedule.
-- Keys: schedules, ticks, history, meta. Work: constant.
-- ARGV: now, name, what is told or ''. Returns 1 where it was known.
call('ZREM', NS .. 'ticks', ARGV[2])
local was_known = call('HDEL', NS .. 'schedules', ARGV[2])
if was_known == 1 then use('ticking').tell(ARGV[3], ARGV[2]) end
return was_known
