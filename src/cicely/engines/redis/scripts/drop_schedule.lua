-- drop_schedule: forgets a schedule.
-- Keys: schedules, ticks. Work: constant.
-- ARGV: now, name. Returns 1 where it was known.
call('ZREM', NS .. 'ticks', ARGV[2])
return call('HDEL', NS .. 'schedules', ARGV[2])
