-- What is kept beside messages and records: outcomes of executions, parts of wide plans, notes to other systems, and
-- which queues are served.
--
--   outcomes          execution → instant (8 bytes), outcome
--   outcomes:carried  executions whose effects are carried out, by instant
--   outcomes:open     executions of which that is not known, by name
--   chunks            part of a plan → its messages; chunks:at the parts by instant
--   topics            topics that have notes; notes:<topic> ids by number, bodies:<topic> id → note
--   workers           worker → instant until which it counts as alive (8 bytes), packed names of its queues

-- --- outcomes ----------------------------------------------------------------------------------------------------

-- Returns, per execution, whether its effects are carried out, and the outcome; false where nothing is recorded.
function ledger.outcomes(executions)
  local found = {}
  for i, value in ipairs(each('HMGET', key.outcomes, executions)) do
    found[i] = value and { call('ZSCORE', key['outcomes:carried'], executions[i]) and 1 or 0, value }
  end
  return found
end

-- Records each unless its execution has one; answers with what was there before.
function ledger.put_outcomes(executions, values)
  local before = ledger.outcomes(executions)
  for i, execution in ipairs(executions) do
    if call('HSETNX', key.outcomes, execution, values[i]) == 1 then
      call('ZADD', key['outcomes:open'], 0, execution)
    end
  end
  return before
end

function ledger.carried(executions)
  for i, value in ipairs(each('HMGET', key.outcomes, executions)) do
    if value then
      call('ZADD', key['outcomes:carried'], (struct.unpack('<d', value)), executions[i])
      call('ZREM', key['outcomes:open'], executions[i])
    end
  end
end

-- Returns a page of those that are not noted as carried out: executions, and outcomes.
function ledger.uncarried(after, limit)
  local from = after == '' and '-' or '(' .. after
  local executions = call('ZRANGEBYLEX', key['outcomes:open'], from, '+', 'LIMIT', 0, limit)
  return { executions, each('HMGET', key.outcomes, executions) }
end

-- --- parts of plans ----------------------------------------------------------------------------------------------

function ledger.put_chunk(part, at, packed)
  if call('HSETNX', key.chunks, part, packed) == 1 then
    call('ZADD', key['chunks:at'], at, part)
  end
end

-- --- notes -------------------------------------------------------------------------------------------------------

local function topic_keys(topic)
  return root .. ':notes:' .. topic, root .. ':bodies:' .. topic
end

function ledger.expect_note(topic)
  local notes, bodies = topic_keys(topic)
  ground.expect(notes, 'zset')
  ground.expect(bodies, 'hash')
end

function ledger.put_note(topic, id, body)
  local notes, bodies = topic_keys(topic)
  if call('HSETNX', bodies, id, body) == 1 then
    call('ZADD', notes, call('INCR', key.noted), id)
    call('SADD', key.topics, topic)
  end
end

-- Returns the oldest notes of a topic: ids and numbers by turns, and bodies.
function ledger.notes(topic, limit)
  local notes, bodies = topic_keys(topic)
  local ids = call('ZRANGE', notes, 0, limit - 1)
  return { call('ZRANGE', notes, 0, limit - 1, 'WITHSCORES'), each('HMGET', bodies, ids) }
end

-- Removes a note that was handed over; one that was put again since has another number.
function ledger.sent(topic, id, seq)
  local notes, bodies = topic_keys(topic)
  if tonumber(call('ZSCORE', notes, id) or 0) == seq then
    call('ZREM', notes, id)
    call('HDEL', bodies, id)
    if call('EXISTS', notes) == 0 then
      call('SREM', key.topics, topic)
    end
  end
end

-- --- workers -----------------------------------------------------------------------------------------------------

-- Returns the packed names of all queues that live workers serve; forgets workers that have fallen silent.
function ledger.served(forget)
  local found = {}
  local all = call('HGETALL', key.workers)
  for i = 1, #all, 2 do
    if struct.unpack('<d', all[i + 1]) > now then
      found[#found + 1] = string.sub(all[i + 1], 9)
    elseif forget then
      call('HDEL', key.workers, all[i])
    end
  end
  return found
end

function ledger.announce(worker, ttl, queues)
  ledger.served(true)
  if queues == '' then
    call('HDEL', key.workers, worker)
  else
    call('HSET', key.workers, worker, struct.pack('<d', now + ttl) .. queues)
  end
end

-- --- upkeep ------------------------------------------------------------------------------------------------------

local function drop(values, index, before, limit)
  local old = call('ZRANGEBYSCORE', index, '-inf', '(' .. text(before), 'LIMIT', 0, limit)
  many('HDEL', values, old)
  many('ZREM', index, old)
  return #old
end

function ledger.purge(before, limit)
  return drop(key.outcomes, key['outcomes:carried'], before, limit) + drop(key.chunks, key['chunks:at'], before, limit)
end

-- Returns how many there are: records, dead letters, outcomes, parts of plans, notes.
function ledger.stats()
  local notes = 0
  for _, topic in ipairs(call('SMEMBERS', key.topics)) do
    notes = notes + call('ZCARD', (topic_keys(topic)))
  end
  return {
    call('HLEN', key.records), call('ZCARD', key['records:dead']), call('HLEN', key.outcomes),
    call('HLEN', key.chunks), notes,
  }
end
