-- Live messages: what they are made of, how they come in, are replaced, cancelled and removed.
--
--   messages    id → order of adding (8 bytes, sorts), then the message as it was added, but for its body
--   bodies      id → body: apart, because only who hands it out has a use for it, and it may be long
--   states      id → what has changed about it since; absent before the first delivery is over
--   ids         all ids, sorted

-- The head of a message: run_at, generation, attempt, fence; lengths of queue, type, lane and stats; then these four.
local MESSAGE = '<dI4I4I4I4I4I4I4'
-- run_at, unknown_since, attempt, hand-outs that are over, crashes, crashes alone; then the stats.
local STATE = '<ddI4I4I4I4'

-- Returns the fields of a head that begins at this place.
local function parse(packed, from)
  local run_at, generation, attempt, fence, q, t, l, s, at = struct.unpack(MESSAGE, packed, from)
  return {
    run_at = run_at, generation = generation, attempt = attempt, fence = fence,
    queue = string.sub(packed, at, at + q - 1),
    type = string.sub(packed, at + q, at + q + t - 1),
    lane = string.sub(packed, at + q + t, at + q + t + l - 1),
    stats = string.sub(packed, at + q + t + l, at + q + t + l + s - 1),
  }
end

function messages.pack(row)
  return struct.pack(
    MESSAGE, row.run_at, row.generation, row.attempt, row.fence, #row.queue, #row.type, #row.lane, #row.stats
  ) .. row.queue .. row.type .. row.lane .. row.stats
end

-- Returns a live message as it stands, or nil.
function messages.row(id)
  local value = call('HGET', key.messages, id)
  if not value then
    return nil
  end
  local row = parse(value, 9)
  row.id, row.seq = id, string.sub(value, 1, 8)
  row.ended, row.crashes, row.solo_crashes, row.unknown_since = 0, 0, 0, 0
  local state = any(key.states) and call('HGET', key.states, id)
  if state then
    local at
    row.run_at, row.unknown_since, row.attempt, row.ended, row.crashes, row.solo_crashes, at =
      struct.unpack(STATE, state)
    row.stats = string.sub(state, at)
  end
  return row
end

-- Returns the queue of a live message, given what is stored of it.
function messages.queue_of(value)
  return parse(value, 9).queue
end

function messages.save(row)
  local state = struct.pack(
    STATE, row.run_at, row.unknown_since, row.attempt, row.ended, row.crashes, row.solo_crashes
  ) .. row.stats
  call('HSET', key.states, row.id, state)
  appeared(key.states)
end

-- A cancelled message is due at once: it only has to be ended.
function messages.due(row)
  if any(key.cancelled) and call('SISMEMBER', key.cancelled, row.id) == 1 then
    return math.min(row.run_at, now)
  end
  return row.run_at
end

-- --- coming in ---------------------------------------------------------------------------------------------------

-- Returns a message that is to be inserted, and looks at what it will be written to. Every message passes here: no more
-- of it is taken apart than waiting needs.
function messages.fresh(id, head, body)
  local run_at, _, _, _, q, t, l, _, at = struct.unpack(MESSAGE, head)
  if run_at ~= run_at then
    ground.refuse('the due time of message ' .. id .. ' is no number')
  end
  local row = {
    id = id, head = head, body = body, run_at = run_at, lane = '',
    queue = string.sub(head, at, at + q - 1), type = string.sub(head, at + q, at + q + t - 1),
  }
  waiting.expect(waiting.kind(row.queue, row.type))
  if l > 0 then
    row.lane = string.sub(head, at + q + t, at + q + t + l - 1)
    ground.expect(waiting.lane(row.lane), 'zset')
  end
  return row
end

-- Returns the join of a flow, to be inserted as due at this instant; it is packed whole: length of id, id, head, body.
function messages.join(packed, instant)
  local length = struct.unpack('<I4', packed)
  local id, at = string.sub(packed, 5, 4 + length), 5 + length
  local row = parse(packed, at)
  row.run_at = instant
  local head = messages.pack(row)
  return messages.fresh(id, head, string.sub(packed, at + #head))
end

-- Reads a list of messages.
function messages.read()
  local found = {}
  for i = 1, number() do
    found[i] = messages.fresh(take(), take(), take())
  end
  return found
end

-- Inserts what is neither live nor recorded, without letting it wait; returns those, and the ids that were taken.
function messages.store(fresh, recorded)
  local ids = {}
  for i, row in ipairs(fresh) do
    ids[i] = row.id
  end
  local live = each('ZMSCORE', key.ids, ids)
  local kept = recorded and any(key['records:expires']) and each('ZMSCORE', key['records:expires'], ids) or {}
  local seq = call('INCRBY', key.seq, #ids) - #ids
  local stored, taken, values, bodies, members, seen = {}, {}, {}, {}, {}, {}
  for i, row in ipairs(fresh) do
    local id = row.id
    if live[i] or kept[i] or seen[id] then
      taken[#taken + 1] = id
    else
      seen[id] = true
      row.seq = struct.pack('>I8', seq + i)
      local size = #values
      stored[#stored + 1] = row
      values[size + 1], values[size + 2] = id, row.seq .. row.head
      bodies[size + 1], bodies[size + 2] = id, row.body
      members[size + 1], members[size + 2] = '0', id
      if row.lane ~= '' then
        call('HSET', key.laned, id, row.lane)
        call('ZADD', waiting.lane(row.lane), seq + i, id)
        appeared(key.laned)
      end
    end
  end
  many('HSET', key.messages, values)
  many('HSET', key.bodies, bodies)
  many('ZADD', key.ids, members)
  return stored, taken
end

-- Inserts, and lets wait; returns the ids that were taken.
function messages.insert(fresh)
  if #fresh == 0 then
    return {}
  end
  local rows, taken = messages.store(fresh, true)
  for _, row in ipairs(rows) do
    waiting.enter(row, row.run_at)
  end
  waiting.flush()
  return taken
end

-- Inserts a message that is running; false where the id is live.
function messages.park(row, token, lease)
  if #messages.store({ row }, false) == 0 then
    return false
  end
  leases.begin({ row.id }, token, now + lease)
  return true
end

-- Inserts or, over an older execution, replaces: whoever ran the older one has lost it.
function messages.put(fresh, flow)
  local row = messages.store({ fresh }, false)[1]
  local ready = true
  if not row then
    local id = fresh.id
    local old, new = messages.row(id), parse(fresh.head, 1)
    if old.generation > new.generation or (old.generation == new.generation and old.attempt >= new.attempt) then
      return
    end
    local token = call('HGET', key.running, id)
    if token then
      leases.finish({ id }, token)
      old.ended = old.ended + 1
    elseif not messages.unhold(old) then
      ready = waiting.leave(old)
    end
    -- Queue, type and lane are what they were; the count of hand-outs never falls.
    local hand_outs = math.max(old.fence + old.ended, new.fence)
    new.id, new.seq, new.queue, new.type, new.lane = id, old.seq, old.queue, old.type, old.lane
    call('HSET', key.messages, id, old.seq .. messages.pack(new))
    call('HSET', key.bodies, id, fresh.body)
    row = new
    row.ended, row.crashes, row.solo_crashes = hand_outs - new.fence, old.crashes, old.solo_crashes
    row.unknown_since = old.unknown_since
    messages.save(row)
  end
  if flow ~= '' then
    messages.hold(row, flow)
  elseif ready then
    waiting.enter(row, messages.due(row))
    waiting.flush()
  end
end

-- --- held --------------------------------------------------------------------------------------------------------

function messages.hold(row, flow)
  call('HSET', key.held, row.id, flow)
  call('SADD', waiting.held_of(row.queue), row.id)
  call('SADD', key.queues, row.queue)
end

-- Returns whether it was held.
function messages.unhold(row)
  if call('HDEL', key.held, row.id) == 0 then
    return false
  end
  call('SREM', waiting.held_of(row.queue), row.id)
  waiting.tidy_queue(row.queue)
  return true
end

-- Ends a message that this flow holds; returns its row, or nil where it does not.
function messages.resolve(id, flow)
  if flow == '' or call('HGET', key.held, id) ~= flow then
    return nil
  end
  local row = messages.row(id)
  messages.unhold(row)
  messages.remove({ id })
  return row
end

-- --- going -------------------------------------------------------------------------------------------------------

-- Ends messages for good that neither wait, run nor are held.
function messages.remove(ids)
  many('HDEL', key.messages, ids)
  many('HDEL', key.bodies, ids)
  many('ZREM', key.ids, ids)
  if any(key.states) then
    many('HDEL', key.states, ids)
  end
  if any(key.cancelled) then
    many('SREM', key.cancelled, ids)
  end
  if any(key.laned) then
    for i, lane in ipairs(each('HMGET', key.laned, ids)) do
      if lane then
        call('HDEL', key.laned, ids[i])
        call('ZREM', waiting.lane(lane), ids[i])
        waiting.promote(lane)
      end
    end
  end
end

-- Asks for these to end; returns the ids found.
function messages.cancel(ids)
  local found, seen = {}, {}
  for _, id in ipairs(ids) do
    local row = not seen[id] and messages.row(id)
    seen[id] = true
    if row then
      found[#found + 1] = id
      if call('SADD', key.cancelled, id) == 1 then
        appeared(key.cancelled)
        local token = call('HGET', key.running, id)
        if token then
          leases.tell(token, { id })
        elseif waiting.leave(row) then
          waiting.enter(row, messages.due(row))
        end
      end
    end
  end
  waiting.flush()
  return found
end
