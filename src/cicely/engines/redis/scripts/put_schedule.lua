-- put_schedule: keeps a schedule under its name.
-- Keys: schedules, ticks, history, meta. Work: constant.
-- ARGV: now, name, the schedule, when it is due next or '', what is told or ''.
use('ticking').put(ARGV[2], ARGV[3], ARGV[4])
use('ticking').tell(ARGV[5], ARGV[2])
return 1
