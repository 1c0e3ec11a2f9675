-- report: adds what a worker saw to the minutes in which it did.
-- Keys: roll:<minute>, rolls. Work: the counts of the call.
-- ARGV: now, then for each the word's code, name, count and how many seconds ago.
for i = 2, #ARGV, 4 do
  use('past').report(ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3]))
end
if made.past then made.past.write() end
return 1
