-- Ends sessions.
local closing = {}
local CLOSED_KEPT_S = 90 * 86400

-- What a session holds, as `claimed` rows.
function closing.held_by(id)
  local ns = call('SORT', NS .. 'held:' .. id)
  local jobs = {}
  for i, run in ipairs(read_all(NS .. 'runs', ns)) do
    if run then jobs[#jobs + 1] = use('rows').claimed(ns[i], run) end
  end
  return jobs
end

-- `kind` is what is told where a worker itself goes.
function closing.close(id, kind)
  local name = call('HGET', NS .. 'session:' .. id, 'leads')
  if name then
    use('past').tell(kind, id, name)
    if kind == 'worker.lost' then use('past').count('lost_workers', '', '') end
    use('past').write()
  end
  local worker = call('HGET', NS .. 'session:' .. id, 'worker')
  call('ZREM', NS .. 'sessions', id)
  call('ZREM', NS .. 'armed', id)
  call('UNLINK', NS .. 'session:' .. id, NS .. 'tasks:' .. id, NS .. 'held:' .. id, NS .. 'asked:' .. id)
  call('SET', NS .. 'closed:' .. id, '1', 'EX', CLOSED_KEPT_S)
  if worker and call('EXISTS', NS .. 'reserved') == 1 then use('reservations').leave(worker) end
end

return closing
