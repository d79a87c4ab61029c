-- A call, from its arguments to its answer: done once however often it is sent, answered, told to who waits.

-- Seconds for which an answer is kept for a caller that has not received it.
local KEPT = 3600

-- Tells who waits, if anybody does: a busy system sends no word. A claim that came back short waits from now on.
local function ring(caller)
  if ground.added and call('DEL', key.idle) == 1 then
    call('PUBLISH', root .. ':bell', caller)
  end
  if ground.idle then
    call('SET', key.idle, 1)
  end
end

-- Does it once. The client sends a call again when its answer was lost; then the answer is given once more. One that
-- arrives after its caller has gone on to another is done no more: nobody would hear the answer.
local function once(write, slot, call_number, caller)
  local name = root .. ':answer:' .. caller .. ':' .. slot
  local kept = call('GET', name)
  local last = kept and tonumber(string.match(kept, '^%d+')) or 0
  if last == tonumber(call_number) then
    local added, answer, brief = unpack(cmsgpack.unpack(string.sub(kept, #call_number + 2)))
    return { added, answer, brief and claims.again(brief) }
  elseif last > tonumber(call_number) then
    error({ err = 'TQLATE call ' .. call_number .. ' comes after call ' .. last })
  end
  ground.check()
  ground.expect(name, 'string')
  local answer, asked, claimed = write()
  ring(caller)
  answer = answer or 0
  local brief = asked and claims.brief(asked, claimed) or false
  local packed = cmsgpack.pack({ flags(ground.added), answer, brief })
  call('SET', name, call_number .. ':' .. packed, 'EX', KEPT)
  return { flags(ground.added), answer, claimed or false }
end

local function carry_out()
  local verb, slot, call_number, caller = ARGV[1], ARGV[3], ARGV[4], ARGV[5]
  if verbs.looks[verb] then
    return verbs.looks[verb]()
  end
  return once(verbs.writes[verb], slot, call_number, caller)
end

local done, answer = pcall(carry_out)
if done then
  return answer
end
return redis.error_reply(type(answer) == 'table' and answer.err or answer)
