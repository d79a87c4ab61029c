-- Counting members: each once, and each flow decided once per step.
--
-- How a member ended is text that begins with s, f or c, for success, failure and cancel. More than fits into a compact
-- hash stands in results:<flow>; the flow itself then keeps the letter and a "+".

-- Of a wide flow recorded:<id> keeps one bit per member, so that whoever looks for the few finds them.

local FITS = 64
local WIDE_FLOW = 1000

-- Bytes of bits looked at by one command.
local WINDOW = 1024

function marks.recorded(flow_id)
  return root .. ':recorded:' .. flow_id
end

function marks.succeeded(ended)
  return ended and string.sub(ended, 1, 1) == 's'
end

-- Records a member of a flow unless it is recorded; returns whether it was new.
function marks.record(flow, index, ended)
  local long = #ended > FITS
  local kept = long and string.sub(ended, 1, 1) .. '+' or ended
  if call('HSETNX', flows.name(flow.id), index, kept) == 0 then
    return false
  end
  if long then
    call('HSET', flows.results(flow.id), index, ended)
  end
  if flow.total > WIDE_FLOW then
    call('SETBIT', marks.recorded(flow.id), index, 1)
  end
  return true
end

-- Takes the records of members away.
function marks.forget(flow, indexes)
  many('HDEL', flows.name(flow.id), indexes)
  many('HDEL', flows.results(flow.id), indexes)
  if flow.total > WIDE_FLOW then
    for _, index in ipairs(indexes) do
      call('SETBIT', marks.recorded(flow.id), index, 0)
    end
  end
end

function marks.read(fenced)
  return { flow_id = take(), index = number(), generation = number(), ended = take(), fenced = fenced }
end

-- Counts one mark; returns whether it changed its flow.
local function count(flow, mark)
  if mark.index < 0 or mark.index >= flow.total then
    return false
  end
  local succeeded = marks.succeeded(mark.ended)
  if flow.verdict ~= '' then
    if succeeded then -- kept: it counts when the flow is opened again
      call('HSETNX', flows.late(flow.id), mark.index, mark.ended)
    end
    return false
  end
  if not (mark.fenced or succeeded or mark.generation >= flow.generation) then
    return false
  end
  if not marks.record(flow, mark.index, mark.ended) then
    return false
  end
  flow.remaining = flow.remaining - 1
  if succeeded then
    flow.succeeded = flow.succeeded + 1
  else
    flow.failed = flow.failed + 1
    if flow.failed == flow.allowed + 1 then
      flow.trigger = mark.index
    end
  end
  return true
end

-- Records unseen members of open flows and decides; returns the ids of the flows decided now.
function marks.write(given)
  local known, changed, closed = {}, {}, {}
  for _, mark in ipairs(given) do
    local flow = known[mark.flow_id]
    if flow == nil then
      flow = flows.load(mark.flow_id) or false
      known[mark.flow_id] = flow
    end
    if flow and count(flow, mark) and not flow.changed then
      flow.changed = true
      changed[#changed + 1] = flow
    end
  end
  for _, flow in ipairs(changed) do
    local verdict = flows.decide(flow)
    if verdict ~= 'aborted' then
      flow.trigger = -1
    end
    if verdict == '' then
      call('HSET', flows.name(flow.id), 'remaining', flow.remaining, 'succeeded', flow.succeeded, 'failed', flow.failed)
    else
      flow.verdict, flow.closed_at = verdict, text(now)
      flows.save(flow)
      closed[#closed + 1] = flow.id
    end
  end
  return closed
end

-- Returns the next indexes of a wide flow that are recorded.
local function recorded_from(flow_id, from, limit)
  local found = {}
  local first = math.floor(from / 8)
  while #found < limit do
    local bytes = call('GETRANGE', marks.recorded(flow_id), first, first + WINDOW - 1)
    for place = 1, #bytes do
      local byte = string.byte(bytes, place)
      for bit_of = 0, byte == 0 and -1 or 7 do
        local index = (first + place - 1) * 8 + bit_of
        if index >= from and #found < limit and bit.band(byte, 2 ^ (7 - bit_of)) ~= 0 then
          found[#found + 1] = index
        end
      end
    end
    if #bytes < WINDOW then
      return found
    end
    first = first + WINDOW
  end
  return found
end

-- Returns the next members that have ended, at most so many: indexes and how they ended, by turns.
function marks.results(flow_id, from, limit)
  local total = tonumber(call('HGET', flows.name(flow_id), 'total') or 0)
  local indexes = {}
  if total > WIDE_FLOW then
    indexes = recorded_from(flow_id, from, limit)
  else
    for index = from, total - 1 do
      indexes[#indexes + 1] = index
    end
  end
  local found, long, places = {}, {}, {}
  for i, ended in ipairs(each('HMGET', flows.name(flow_id), indexes)) do
    if ended and #found < 2 * limit then
      found[#found + 1], found[#found + 2] = indexes[i], ended
      if string.sub(ended, 2, 2) == '+' then
        long[#long + 1], places[#places + 1] = indexes[i], #found
      end
    end
  end
  for i, ended in ipairs(each('HMGET', flows.results(flow_id), long)) do
    found[places[i]] = ended
  end
  return found
end
