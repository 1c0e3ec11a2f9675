-- What a session can run.
local abilities = {}

function abilities.session(id)
  local known = call('HMGET', NS .. 'session:' .. id, 'number', 'has_wildcards', 'queues')
  if not known[1] then return nil end
  return { id = id, number = known[1], has_wildcards = known[2] == '1', queues = known[3], runs = {} }
end

local function names_a_package_of(session, task)
  local names = {}
  for at in string.gmatch(task, '()%.') do names[#names + 1] = sub(task, 1, at) .. '*' end
  if #names == 0 then return false end
  for _, is_named in ipairs(call('SMISMEMBER', NS .. 'tasks:' .. session.id, unpack(names))) do
    if is_named == 1 then return true end
  end
  return false
end

-- Whether a session can run a task: it names it, or a package above it as "package.*".
function abilities.runs(session, task)
  local known = session.runs[task]
  if known == nil then
    known = call('SISMEMBER', NS .. 'tasks:' .. session.id, task) == 1
      or (session.has_wildcards and names_a_package_of(session, task))
    session.runs[task] = known
  end
  return known
end

-- Whether a session serves a queue; one that named none serves any.
function abilities.serves(session, queue)
  return session.queues == '' or string.find(session.queues, '|' .. queue .. '|', 1, true) ~= nil
end

return abilities
