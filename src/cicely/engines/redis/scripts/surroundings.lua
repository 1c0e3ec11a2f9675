-- surroundings: reads what stands between a job and its start.
-- Keys: ids, paused, count, w:<n>, in:<n>, work, ready:<pair>|, classes, gated:<stream>, stands:<queue>|<lane>,
-- lane:<queue>, set:<kind>, gauges, holders:<key>, runs, sessions, session:<id>, units:<worker>, reserved, reserved:<worker>,
-- drawn:<worker>, passed, gone, j:<n>.
-- Work: 1,000 jobs, lanes and parents that are looked at; the open sessions and what runs with resources.
-- ARGV: now, id. Returns nothing for an unknown job, else now, whether its queue is paused, whether it is held, ahead,
-- lanes, lanes behind, its valves, the holders of each, parents, sessions, who uses resources, what is
-- reserved, and for whom workers keep free what it wants.
local n = call('HGET', NS .. 'ids', ARGV[2])
local row = n and n ~= 'tomb' and use('rows').of(n)
if not row then return false end
return use('surroundings').told(row)
