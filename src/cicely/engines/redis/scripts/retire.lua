-- retire: settles outcomes, hands back all else that a session holds, and closes it for ever.
-- Keys: those of settle, session:<id>, held:<id>, closed:<id>. Work: the claims that it holds.
-- ARGV: now, id, plan of a hand-back, then as for settle.
local id = ARGV[2]
if call('EXISTS', NS .. 'session:' .. id) == 0 then return 0 end
use('settling').settle(4)
local plan = cmsgpack.unpack(ARGV[3])
use('decisions').carry_out_all(use('closing').held_by(id), plan, '')
use('closing').close(id, 'worker.left')
ring()
return 1
