-- Time passes: due jobs become ready, late ones expire. Each from the head of an ordered index.
-- The first of what is due while anything is left of what an earlier call set in motion.
local moving = { INTENTS = 'intents' }
local EXPIRED = 'not started before its deadline'

function moving.promote(batch)
  local ns = call('ZRANGEBYSCORE', NS .. 'due', '-inf', now, 'LIMIT', 0, batch)
  if #ns == 0 then return 0 end
  local rows, ready, counts = use('rows'), use('ready'), use('counts')
  if ns[1] == moving.INTENTS then
    table.remove(ns, 1)
    use('agenda').carry_on()
    if #ns == 0 then return 0 end
  end
  -- First: removing is never refused, also by a full server.
  many('ZREM', NS .. 'due', ns)
  for _, n in ipairs(ns) do
    local row = rows.of(n)
    if row then
      row.due_at = nil
      call('SET', NS .. 'j:' .. n, rows.record(row))
      if row.waits then use('suspending').await_no_more(n) end
      ready.add(row)
      counts.move(row.queue, row.waits and 'waiting' or 'scheduled', 'ready', 1)
    end
  end
  ready.write()
  counts.write()
  return #ns
end

function moving.expire_late(batch)
  local ns = call('ZRANGEBYSCORE', NS .. 'expiring', '-inf', now, 'LIMIT', 0, batch)
  if #ns == 0 then return 0 end
  local rows, endings = use('rows'), use('endings')
  for _, n in ipairs(ns) do
    -- What follows from one end comes before the next, which may have ended by that.
    if made.agenda then made.agenda.run() end
    local row = not endings.ends[n] and rows.of(n)
    if row and (row.flags == 0 or call('ZSCORE', NS .. 'expiring', n)) then
      endings.leave_waiting(row)
      endings.finish(row, 'expired', EXPIRED, '', '', '')
    end
  end
  many('ZREM', NS .. 'expiring', ns)
  endings.write()
  return #ns
end

-- When the next job is due, or nil.
function moving.next_due_at()
  local head = call('ZRANGE', NS .. 'due', 0, 0, 'WITHSCORES')
  return head[2] and tonumber(head[2])
end

function moving.seconds_until(at)
  return at and string.format('%.17g', math.max(0, at - now)) or ''
end

return moving
