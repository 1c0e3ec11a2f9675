-- pause: hands out no more jobs of a queue.
-- Keys: paused, history, meta. Work: constant.
if call('SADD', NS .. 'paused', ARGV[2]) == 1 then
  use('past').tell('queue.paused', ARGV[2])
  use('past').write()
end
return 1
