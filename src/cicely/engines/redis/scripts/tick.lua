-- tick: puts one schedule in place of another and enqueues jobs, all or nothing.
-- Keys: schedules, ticks, and those of enqueue_graph. Work: the jobs of the call.
-- ARGV: now, name, what was seen, what comes then, when that is due next or '', labels, then as for enqueue.
-- Returns 1, or 0 where the schedule is another by now.
if call('HGET', NS .. 'schedules', ARGV[2]) ~= ARGV[3] then return 0 end
local storing, linking, ids = use('storing'), use('linking'), use('storing').ids(7)
linking.begin(cmsgpack.unpack(ARGV[6]), {})
use('ticking').put(ARGV[2], ARGV[4], ARGV[5])
linking.link(ids, storing.store(7, ids, linking), {})
ring()
return 1
