-- Leases: who holds a message, until when, and how a lease ends.
--
--   running        id → token
--   until          id by the end of its lease
--   alone          ids that run alone
--   told:<worker>  ids that this worker runs and should not

-- Most leases that one claim takes back: the rest is due at once, and comes with the next.
local AT_ONCE = 1000

local function told_of(token)
  return root .. ':told:' .. string.match(token, '^[^:]*')
end

function leases.begin(ids, token, untill)
  local tokens, ends, last = {}, {}, text(untill)
  for i, id in ipairs(ids) do
    tokens[2 * i - 1], tokens[2 * i] = id, token
    ends[2 * i - 1], ends[2 * i] = last, id
  end
  many('HSET', key.running, tokens)
  many('ZADD', key['until'], ends)
end

-- Takes leases away; the messages stay.
function leases.finish(ids, token)
  many('HDEL', key.running, ids)
  many('ZREM', key['until'], ids)
  if any(key.alone) then
    many('SREM', key.alone, ids)
  end
  if any(key.cancelled) then
    many('SREM', told_of(token), ids)
  end
end

-- Lets the worker of this token know that it should not run these.
function leases.tell(token, ids)
  many('SADD', told_of(token), ids)
end

-- Looks at what ending a lease of this token will be written to.
function leases.expect(token)
  if any(key.cancelled) then
    ground.expect(told_of(token), 'set')
  end
end

-- Splits ids into those that are held under this token and those that are not.
function leases.split(token, ids)
  local held, lost = {}, {}
  local tokens = token == '' and {} or each('HMGET', key.running, ids)
  for i, id in ipairs(ids) do
    if tokens[i] == token then
      held[#held + 1] = id
    else
      lost[#lost + 1] = id
    end
  end
  return held, lost
end

function leases.holds(id, token)
  return token ~= '' and call('HGET', key.running, id) == token
end

-- --- how a lease ends --------------------------------------------------------------------------------------------

-- Gives back, to be tried again.
function leases.rearm(id, token, again)
  local row = messages.row(id)
  leases.finish({ id }, token)
  row.run_at, row.attempt, row.stats = again.run_at, again.attempt, again.stats
  row.unknown_since, row.ended = again.unknown_since, row.ended + 1
  messages.save(row)
  waiting.enter(row, messages.due(row))
end

-- Keeps, not to be handed out before the flow's end.
function leases.hold(id, token, flow)
  local row = messages.row(id)
  leases.finish({ id }, token)
  row.ended = row.ended + 1
  messages.save(row)
  messages.hold(row, flow)
end

-- Gives back, due as it was; `crashed` where the holder has died.
local function give_back(id, token, crashed)
  local row = messages.row(id)
  local alone = crashed and call('SISMEMBER', key.alone, id) or 0
  leases.finish({ id }, token)
  if row then
    row.ended = row.ended + 1
    row.crashes = row.crashes + (crashed and 1 or 0)
    row.solo_crashes = row.solo_crashes + alone
    messages.save(row)
    waiting.enter(row, messages.due(row))
  end
end

function leases.release(id, token)
  give_back(id, token, false)
end

-- Makes due again what was left under leases that have run out.
function leases.reclaim()
  for _, id in ipairs(call('ZRANGEBYSCORE', key['until'], '-inf', now, 'LIMIT', 0, AT_ONCE)) do
    give_back(id, call('HGET', key.running, id) or '', true)
  end
  waiting.flush()
end

-- --- while it lasts ----------------------------------------------------------------------------------------------

-- Lets a lease run on from now; returns whether it was there.
function leases.renew(id, token, lease)
  if not leases.holds(id, token) then
    return false
  end
  call('ZADD', key['until'], now + lease, id)
  return true
end

-- Puts a lease under another token, to run on from now, if it is not there yet; false where it was lost.
function leases.move(id, token, other, lease)
  if leases.renew(id, other, lease) then
    return true
  end
  if not leases.renew(id, token, lease) then
    return false
  end
  call('HSET', key.running, id, other)
  if any(key.cancelled) and call('SREM', told_of(token), id) == 1 then
    leases.tell(other, { id })
  end
  return true
end

-- Notes that it runs alone.
function leases.solo(id)
  call('SADD', key.alone, id)
  appeared(key.alone)
end

-- Returns what this worker runs and should not: alternately ids and tokens.
function leases.told(worker)
  local found = {}
  if any(key.cancelled) then
    local ids = call('SMEMBERS', root .. ':told:' .. worker)
    for i, token in ipairs(each('HMGET', key.running, ids)) do
      if token then
        found[#found + 1], found[#found + 2] = ids[i], token
      end
    end
  end
  return found
end
