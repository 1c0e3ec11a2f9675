-- schedules: reads every schedule.
-- Keys: schedules. Work: the schedules.
return call('HVALS', NS .. 'schedules')
