-- ARGV: when they are due, the first one's number, how many, their body.
for i = 0, ARGV[3] - 1 do redis.call('ZADD', KEYS[1] .. ':scheduled', ARGV[1], ARGV[2] + i .. ' ' .. ARGV[4]) end
