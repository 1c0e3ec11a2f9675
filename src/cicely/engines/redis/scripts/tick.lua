-- tick: puts one schedule in place of another and enqueues jobs, all or nothing.
-- Keys: schedules, ticks, and those of enqueue_graph. Work: the jobs of the call.
-- ARGV: now, name, what was seen, what comes then, when that is due next or '', what is told or '', counts (as for
-- report, in turns), labels, then as for enqueue.
-- Returns 1, or 0 where the schedule is another by now; or what refuses the jobs.
if call('HGET', NS .. 'schedules', ARGV[2]) ~= ARGV[3] then return 0 end
local storing, linking, ids = use('storing'), use('linking'), use('storing').ids(9)
local refusal = storing.refusal(9, ids)
if refusal then return refusal end
linking.begin(cmsgpack.unpack(ARGV[8]), {})
use('ticking').put(ARGV[2], ARGV[4], ARGV[5])
linking.link(ids, storing.store(9, ids, linking), {})
local counts = cmsgpack.unpack(ARGV[7])
for i = 1, #counts, 4 do use('past').report(counts[i], counts[i + 1], counts[i + 2], counts[i + 3]) end
if made.past then made.past.write() end
use('ticking').tell(ARGV[6], ARGV[2])
ring()
return 1
