-- resume: hands out the jobs of a queue again.
-- Keys: paused, count, history, meta, and those of a ring. Work: constant.
if call('SREM', NS .. 'paused', ARGV[2]) == 1 then
  use('past').tell('queue.resumed', ARGV[2])
  use('past').write()
end
-- No state: that a queue had jobs is known by its states.
call('HSETNX', NS .. 'count', ARGV[2] .. '|resumed', 0)
ring()
return 1
