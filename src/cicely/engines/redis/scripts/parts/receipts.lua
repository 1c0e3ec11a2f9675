-- Receipts: how a claim was settled, for whoever repeats its outcome, where the job's end does not say it.
local receipts = {}
local LEASES = 10
local DEFAULT_LEASE_S = 30

local function key_of(request, n, fence)
  return NS .. 't:' .. request .. ':' .. n .. ':' .. fence
end

function receipts.keep(request, n, fence, settled)
  local lease_s = tonumber(call('HGET', NS .. 'session:' .. settled.session, 'lease_s') or DEFAULT_LEASE_S)
  local left_s = settled.since + LEASES * lease_s - now
  if left_s > 0 then
    call('SET', key_of(request, n, fence), settled.outcome, 'PX', math.ceil(left_s * 1000))
  end
end

-- The word under which the attempt behind a token was settled before, or nothing.
function receipts.find(request, n, fence)
  local record = call('GET', NS .. 'd:' .. n)
  if record then
    local _, _, _, _, _, ended_request, ended_fence, _, _, _, _, _, outcome = limit(record, 12)
    if ended_request == request and ended_fence % use('rows').FENCES == fence then return outcome end
  end
  return call('GET', key_of(request, n, fence))
end

return receipts
