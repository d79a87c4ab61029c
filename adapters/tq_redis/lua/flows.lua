-- Flows: stored, looked up, opened again, closed and forgotten. Their members are counted in `marks`.
--
--   flow:<id>       numbers and state, by name; and by index how each member ended, if that fits into 64 bytes
--   results:<id>    by index what does not fit: short values keep a hash compact
--   late:<id>       by index the members that succeeded after the verdict
--   flows, joins    id → the words that no decision needs, and the message that is held until the verdict
--   flows:open      open flows by start; flows:ids the same by id; flows:deadline those that have one, by deadline
--   flows:closed    closed flows by start; flows:done those whose join is on its way, by their end
--   flows:todo      flows that something is to be done for at once

local FIELDS = {
  'total', 'allowed', 'needed', 'started_at', 'generation', 'deadline', 'cancel_siblings', 'chunks', 'remaining',
  'succeeded', 'failed', 'verdict', 'reason', 'trigger', 'closed_at', 'opened_at', 'confirmed', 'spread', 'tidied',
}
local NUMBERS = { 'total', 'allowed', 'needed', 'generation', 'chunks', 'remaining', 'succeeded', 'failed', 'spread' }

-- Indexes looked at by one command.
local STEP = 1000

function flows.name(id)
  return root .. ':flow:' .. id
end

function flows.results(id)
  return root .. ':results:' .. id
end

function flows.late(id)
  return root .. ':late:' .. id
end

function flows.expect(id)
  ground.expect(flows.name(id), 'hash')
  ground.expect(flows.results(id), 'hash')
  ground.expect(flows.late(id), 'hash')
  ground.expect(marks.recorded(id), 'string')
end

-- Returns the fields of a flow, or nil.
function flows.load(id)
  local values = call('HMGET', flows.name(id), unpack(FIELDS))
  if not values[1] then
    return nil
  end
  local flow = { id = id }
  for i, field in ipairs(FIELDS) do
    flow[field] = values[i]
  end
  for _, field in ipairs(NUMBERS) do
    flow[field] = tonumber(flow[field])
  end
  return flow
end

-- As tq.model.decide: failures are weighed first.
function flows.decide(flow)
  if flow.failed > flow.allowed then
    return 'aborted'
  end
  if flow.remaining <= 0 or flow.succeeded >= flow.needed then
    return 'completed'
  end
  return ''
end

-- Puts a flow into the sets in which its state belongs.
function flows.place(flow)
  local id, open = flow.id, flow.verdict == ''
  local cancels = flow.cancel_siblings == '1' or flow.verdict == 'cancelled'
  if open then
    call('ZADD', key['flows:open'], flow.started_at, id)
    call('ZADD', key['flows:ids'], 0, id)
    call('ZREM', key['flows:closed'], id)
  else
    call('ZREM', key['flows:open'], id)
    call('ZREM', key['flows:ids'], id)
    call('ZADD', key['flows:closed'], flow.started_at, id)
  end
  if open and flow.deadline ~= '' then
    call('ZADD', key['flows:deadline'], flow.deadline, id)
  else
    call('ZREM', key['flows:deadline'], id)
  end
  if flow.spread < flow.chunks or (not open and (flow.confirmed == '0' or (cancels and flow.tidied == '0'))) then
    call('ZADD', key['flows:todo'], 0, id)
  else
    call('ZREM', key['flows:todo'], id)
  end
  if not open and flow.confirmed == '1' then
    call('ZADD', key['flows:done'], flow.closed_at, id)
  else
    call('ZREM', key['flows:done'], id)
  end
end

-- --- opening and closing -----------------------------------------------------------------------------------------

function flows.read()
  return {
    id = take(), words = take(), join = take(), total = number(), allowed = number(), needed = number(),
    started_at = take(), generation = number(), deadline = take(), cancel_siblings = take(), chunks = number(),
  }
end

-- Returns whether a flow is stored.
function flows.known(id)
  return call('HEXISTS', key.flows, id) == 1
end

-- Stores a flow that is new; returns whether it is closed from the start, for want of members.
function flows.open(flow)
  flow.remaining, flow.succeeded, flow.failed = flow.total, 0, 0
  flow.verdict = flows.decide(flow)
  flow.closed_at = flow.verdict == '' and '' or text(now)
  flow.opened_at, flow.confirmed, flow.spread, flow.tidied = flow.started_at, '0', 0, '0'
  flow.reason, flow.trigger = '', -1
  call('HSET', key.flows, flow.id, flow.words)
  call('HSET', key.joins, flow.id, flow.join)
  flows.save(flow)
  return flow.verdict ~= ''
end

function flows.save(flow)
  local values = {}
  for _, field in ipairs(FIELDS) do
    values[#values + 1], values[#values + 2] = field, flow[field]
  end
  call('HSET', flows.name(flow.id), unpack(values))
  flows.place(flow)
end

-- Closes an open flow; false where it is closed or unknown.
function flows.close(id, verdict, reason)
  local flow = flows.load(id)
  if not flow or flow.verdict ~= '' then
    return false
  end
  flow.verdict, flow.reason, flow.closed_at = verdict, reason, text(now)
  flows.save(flow)
  return true
end

-- Notes that the join of this generation is on its way for good.
function flows.confirm(id, generation)
  local flow = flows.load(id)
  if flow and flow.verdict ~= '' and flow.generation == generation and flow.confirmed == '0' then
    flow.confirmed = '1'
    flows.save(flow)
  end
end

-- Notes how far spreading has come, never back, or that nothing is left to tidy up; "" leaves it.
function flows.advance(id, spread, tidied)
  local flow = flows.load(id)
  if flow then
    flow.spread = math.max(flow.spread, tonumber(spread) or 0)
    flow.tidied = tidied == '' and flow.tidied or tidied
    flows.save(flow)
  end
end

-- Opens the next generation; returns the indexes that are missing again, or nil if it was not possible. A flow whose
-- join is not yet on its way stays as it is: that join would be lost.
function flows.reopen(id, generation, join, at, deadline)
  local flow = flows.load(id)
  if not flow or flow.confirmed == '0' or flow.verdict == '' or flow.generation ~= generation - 1 then
    return nil
  end
  local missing = {}
  for from = 0, flow.total - 1, STEP do
    local indexes, gone = {}, {}
    for index = from, math.min(from + STEP, flow.total) - 1 do
      indexes[#indexes + 1] = index
    end
    local ended, late = call('HMGET', flows.name(id), unpack(indexes)), call('HMGET', flows.late(id), unpack(indexes))
    for i, index in ipairs(indexes) do
      if not marks.succeeded(ended[i]) then
        if ended[i] then
          gone[#gone + 1] = index
        end
        if not late[i] then
          missing[#missing + 1] = index
        end
      end
    end
    marks.forget(flow, gone)
    for i, index in ipairs(indexes) do
      if late[i] then
        marks.record(flow, index, late[i])
      end
    end
  end
  call('DEL', flows.late(id))
  flow.generation, flow.deadline, flow.opened_at = generation, deadline, at
  flow.succeeded, flow.failed, flow.remaining = flow.total - #missing, 0, #missing
  flow.verdict = flows.decide(flow)
  flow.closed_at = flow.verdict == '' and '' or text(now)
  flow.reason, flow.trigger, flow.confirmed, flow.tidied = '', -1, '0', '0'
  call('HSET', key.joins, id, join)
  flows.save(flow)
  return missing
end

-- Lets the joins of flows decided just now run. Nobody can see the verdict without the join, so it is on its way for
-- good, and confirmed at once.
function flows.release(ids)
  local joins = {}
  for _, id in ipairs(ids) do
    joins[#joins + 1] = messages.join(call('HGET', key.joins, id), now)
    local flow = flows.load(id)
    flow.confirmed = '1'
    flows.save(flow)
  end
  messages.insert(joins)
end

function flows.purge(before, limit)
  local old = call('ZRANGEBYSCORE', key['flows:done'], '-inf', '(' .. text(before), 'LIMIT', 0, limit)
  for _, id in ipairs(old) do
    call('UNLINK', flows.name(id), flows.results(id), flows.late(id), marks.recorded(id))
  end
  for _, name in ipairs({ key.flows, key.joins }) do
    many('HDEL', name, old)
  end
  for _, name in ipairs({ key['flows:closed'], key['flows:todo'], key['flows:done'] }) do
    many('ZREM', name, old)
  end
  return #old
end

-- --- looking -----------------------------------------------------------------------------------------------------

-- Returns the states of the flows that are known.
function flows.states(ids)
  local found = {}
  local words, joins = each('HMGET', key.flows, ids), each('HMGET', key.joins, ids)
  for i, id in ipairs(ids) do
    if words[i] then
      found[#found + 1] = { id, words[i], joins[i], call('HMGET', flows.name(id), unpack(FIELDS)) }
    end
  end
  return found
end

-- Returns flows whose deadline has passed, and flows that something is to be done for.
function flows.due(at, limit)
  local ids = call('ZRANGEBYSCORE', key['flows:deadline'], '-inf', at, 'LIMIT', 0, limit)
  local seen = {}
  for _, id in ipairs(ids) do
    seen[id] = true
  end
  for _, id in ipairs(call('ZRANGE', key['flows:todo'], 0, limit - 1)) do
    if #ids < limit and not seen[id] then
      ids[#ids + 1] = id
    end
  end
  return flows.states(ids)
end

-- Returns open flows by id, those opened before an instant, and where to go on: a bounded number is looked at.
function flows.quiet(since, after, limit)
  local from = after == '' and '-' or '(' .. after
  local ids = call('ZRANGEBYLEX', key['flows:ids'], from, '+', 'LIMIT', 0, limit)
  local quiet = {}
  for _, id in ipairs(ids) do
    if tonumber(call('HGET', flows.name(id), 'opened_at')) < since then
      quiet[#quiet + 1] = id
    end
  end
  return { flows.states(quiet), #ids == limit and ids[#ids] or '' }
end

function flows.page(open, at, id, limit)
  return flows.states(ground.page(open and key['flows:open'] or key['flows:closed'], at, id, limit))
end
