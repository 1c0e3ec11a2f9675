-- Settles by number and token, then claims from the head of the list. ARGV: now, token, batch, then number and
-- token of each job that ended. Returns how many tokens held, then the rows that were taken.
local ns, gone, done = {}, {}, {}
for i = 4, #ARGV, 2 do ns[#ns + 1] = ARGV[i] end
if #ns > 0 then
  for i, token in ipairs(redis.call('HMGET', KEYS[1] .. ':run', unpack(ns))) do
    if token == ARGV[3 + 2 * i] then
      gone[#gone + 1] = ns[i]
      done[#done + 1], done[#done + 2] = ns[i], ARGV[1]
    end
  end
end
if #gone > 0 then
  redis.call('HDEL', KEYS[1] .. ':run', unpack(gone))
  redis.call('HSET', KEYS[1] .. ':done', unpack(done))
end
local rows = ARGV[3] ~= '0' and redis.call('LPOP', KEYS[1] .. ':ready', ARGV[3]) or {}
if #rows > 0 then
  local held = {}
  for i, row in ipairs(rows) do held[2 * i - 1], held[2 * i] = string.match(row, '^%d+'), ARGV[2] end
  redis.call('HSET', KEYS[1] .. ':run', unpack(held))
end
return { #gone, rows }
