-- rollups: reads what was counted in some minutes, whole ones, oldest first.
-- Keys: rolls, roll:<minute>. Work: the cells of these minutes.
-- ARGV: now, the first minute, the one after the last, how many cells are enough.
-- Returns the minute that goes on or '', then for each minute itself and its fields and values in turns.
local next_one, cells, replies = ARGV[2], 0, {}
while next_one and cells < tonumber(ARGV[4]) do
  local page = call('ZRANGEBYSCORE', NS .. 'rolls', next_one, '(' .. ARGV[3], 'LIMIT', 0, 2)
  if page[1] then
    local found = call('HGETALL', NS .. 'roll:' .. page[1])
    replies[#replies + 1], replies[#replies + 2] = page[1], found
    cells = cells + #found / 2
  end
  next_one = page[2]
end
table.insert(replies, 1, next_one or '')
return replies
