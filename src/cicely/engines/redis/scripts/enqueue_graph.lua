-- enqueue_graph: stores those of some jobs that are new, with their labels and edges, all or none.
-- Keys: those of enqueue; w:<n>, in:<n>, out:<n>, broken:<n>, of:<workflow>, grp:<group>, hold:<workflow>,
-- wf:<workflow>, workflows, and those of what edges out of ended jobs decide.
-- Work: the jobs and edges of the call, and 256 of those that follow.
-- ARGV: now, labels and edges, then as for enqueue.
-- Returns for each job the id of the one that stands for it, false where that is the new job; or the id of an end
-- that is nowhere; or what refuses them.
local storing, linking = use('storing'), use('linking')
local labels, edges = unpack(cmsgpack.unpack(ARGV[2]))
local ids = storing.ids(3)
local ends, is_seen = {}, {}
for _, id in ipairs(ids) do is_seen[id] = true end
for i = 1, #edges, 3 do
  for j = i, i + 1 do
    if not is_seen[edges[j]] then
      is_seen[edges[j]] = true
      ends[#ends + 1] = edges[j]
    end
  end
end
local ns = read_all(NS .. 'ids', ends)
for i, n in ipairs(ns) do
  if not n then return ends[i] end
end
local refusal = storing.refusal(3, ids)
if refusal then return refusal end
linking.begin(labels, edges)
linking.know(ends, ns)
local replies = storing.store(3, ids, linking)
linking.link(ids, replies, edges)
use('endings').write()
ring()
return replies
