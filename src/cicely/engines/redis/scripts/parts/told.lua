-- What clients are told of a claim: its first values, and the units that it has.
local rows = use('rows')
local told = {}
local TOLD = 10

function told.run(run)
  if not run then return run end
  local _, _, _, _, _, _, _, flags = limit(run, 7)
  local passed
  if type(flags) == 'number' and flags % 64 >= 32 then passed = rows.passed(run, (limit(run, rows.RUN)), flags) end
  return sub(run, 1, (limit(run, TOLD))) .. pack(passed and passed[6] or {})
end

return told
