-- pause: hands out no more jobs of a queue.
-- Keys: paused. Work: constant.
call('SADD', NS .. 'paused', ARGV[2])
return 1
