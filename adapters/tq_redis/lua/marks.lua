-- Counting members: each once, and each flow decided once per step.
--
-- How a member ended is text that begins with s, f or c, for success, failure and cancel. More than fits into a compact
-- hash stands in results:<flow>; the flow itself then keeps the letter and a "+".

local FITS = 64

function marks.succeeded(ended)
  return ended and string.sub(ended, 1, 1) == 's'
end

-- Records a member unless it is recorded; returns whether it was new.
function marks.record(flow_id, index, ended)
  if #ended <= FITS then
    return call('HSETNX', flows.name(flow_id), index, ended) == 1
  end
  if call('HSETNX', flows.name(flow_id), index, string.sub(ended, 1, 1) .. '+') == 0 then
    return false
  end
  call('HSET', flows.results(flow_id), index, ended)
  return true
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
  if not marks.record(flow.id, mark.index, mark.ended) then
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

-- Returns how members with these indexes ended, as far as they have.
function marks.results(flow_id, from, limit)
  local total = tonumber(call('HGET', flows.name(flow_id), 'total') or 0)
  local indexes, found, long, places = {}, {}, {}, {}
  for index = from, math.min(from + limit, total) - 1 do
    indexes[#indexes + 1] = index
  end
  for i, ended in ipairs(each('HMGET', flows.name(flow_id), indexes)) do
    if ended then
      found[#found + 1], found[#found + 2] = indexes[i], ended
      if string.sub(ended, 2, 2) == '+' then
        long[#long + 1], places[#places + 1] = indexes[i], #found
      end
    end
  end
  for i, ended in ipairs(each('HMGET', flows.results(flow_id), long)) do
    found[places[i]] = ended
  end
  return { total, found }
end
