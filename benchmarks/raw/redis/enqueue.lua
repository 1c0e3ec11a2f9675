-- An append to the list of ready jobs; ARGV: their bodies.
local last = redis.call('INCRBY', KEYS[1] .. ':last', #ARGV)
local rows = {}
for i, body in ipairs(ARGV) do rows[i] = last - #ARGV + i .. ' ' .. body end
redis.call('RPUSH', KEYS[1] .. ':ready', unpack(rows))
