-- resume: hands out the jobs of a queue again.
-- Keys: paused, count, and those of a ring. Work: constant.
call('SREM', NS .. 'paused', ARGV[2])
call('HSETNX', NS .. 'count', ARGV[2] .. '|ready', 0)
ring()
return 1
