-- history: reads a page of events, oldest first.
-- Keys: history, meta. Work: 1,000 events at most.
-- ARGV: now, the number of the event behind which the page begins, how many.
-- Returns the number of the last event, then number and event in turns.
local replies = { use('past').newest() }
if tonumber(ARGV[3]) == 0 then return replies end
for _, entry in ipairs(call('XRANGE', NS .. 'history', '(' .. ARGV[2] .. '-0', '+', 'COUNT', ARGV[3])) do
  replies[#replies + 1], replies[#replies + 2] = string.match(entry[1], '^%d+'), entry[2][2]
end
return replies
