-- put_schedule: keeps a schedule under its name.
-- Keys: schedules, ticks. Work: constant.
-- ARGV: now, name, the schedule, when it is due next or ''.
use('ticking').put(ARGV[2], ARGV[3], ARGV[4])
return 1
