-- The claim: take back what dead workers left, choose what is due, and hand it out under a lease.

local PAGE = 64

function claims.read()
  local asked = { token = take(), limit = number(), lease = number(), queues = list(), caps = {} }
  asked.worker = string.match(asked.token, '^[^:]*')
  for _ = 1, number() do
    local queue, type = take(), take()
    asked.caps[queue] = asked.caps[queue] or {}
    asked.caps[queue][type] = number()
  end
  return asked
end

-- Returns the kinds that this claim may be served from, each with how many of it may go.
local function sources_of(asked)
  local found, seen = {}, {}
  for _, queue in ipairs(asked.queues) do
    if not seen[queue] and call('SISMEMBER', key.paused, queue) == 0 then
      local caps = asked.caps[queue] or {}
      for _, type in ipairs(call('SMEMBERS', waiting.types_of(queue))) do
        local left = caps[type] or asked.limit
        if left > 0 then
          found[#found + 1] = { kind = waiting.kind(queue, type), cap = caps[type], left = left, taken = 0 }
        end
      end
    end
    seen[queue] = true
  end
  return found
end

-- Looks at the sets of a claim before anything is written.
function claims.expect(asked)
  leases.expect(asked.token)
  for _, queue in ipairs(asked.queues) do
    ground.expect(waiting.types_of(queue), 'set')
  end
  for _, source in ipairs(sources_of(asked)) do
    waiting.expect(source.kind)
  end
end

-- --- choosing ----------------------------------------------------------------------------------------------------

local function due_of(source, offset, size)
  return call('ZRANGEBYSCORE', source.kind.wait, '-inf', now, 'WITHSCORES', 'LIMIT', offset, size)
end

-- Moves a source to its next member; false at its end.
local function advance(source)
  if source.taken >= source.left then
    return false
  end
  if not source.page or source.place > #source.page then
    source.page, source.place = due_of(source, source.taken, math.min(PAGE, source.left - source.taken)), 1
    if #source.page == 0 then
      return false
    end
  end
  source.member = source.page[source.place]
  source.due = tonumber(source.page[source.place + 1])
  source.order = struct.unpack('>I8', source.member)
  source.place = source.place + 2
  return true
end

local function before(one, other)
  if one.due ~= other.due then
    return one.due < other.due
  end
  return one.order < other.order
end

-- Lets the source at this place of a heap sink to where it belongs.
local function sink(heap, place)
  while true do
    local child = 2 * place
    if child < #heap and before(heap[child + 1], heap[child]) then
      child = child + 1
    end
    if child > #heap or not before(heap[child], heap[place]) then
      return
    end
    heap[place], heap[child] = heap[child], heap[place]
    place = child
  end
end

-- Returns the first members of all sources, those that came due first before the others.
local function merge(sources, limit)
  local heap, chosen = {}, {}
  for _, source in ipairs(sources) do
    if advance(source) then
      heap[#heap + 1] = source
    end
  end
  for place = math.floor(#heap / 2), 1, -1 do
    sink(heap, place)
  end
  while #heap > 0 and #chosen < limit do
    local source = heap[1]
    chosen[#chosen + 1] = source.member
    source.taken = source.taken + 1
    if not advance(source) then
      heap[1] = heap[#heap]
      heap[#heap] = nil
    end
    sink(heap, 1)
  end
  return chosen
end

local function choose(sources, limit)
  if #sources ~= 1 then
    return merge(sources, limit)
  end
  local source = sources[1]
  local most = math.min(limit, source.left)
  local chosen = call('ZRANGEBYSCORE', source.kind.wait, '-inf', now, 'LIMIT', 0, most)
  source.taken = #chosen
  return chosen
end

-- --- handing out -------------------------------------------------------------------------------------------------

-- Returns when something will fall due: the next of each kind of which more might go, or the end of the first lease.
local function next_due(sources)
  local first = call('ZRANGE', key['until'], 0, 0, 'WITHSCORES')[2]
  for _, source in ipairs(sources) do
    if not source.cap or source.taken < source.left then
      local due = call('ZRANGE', source.kind.wait, 0, 0, 'WITHSCORES')[2]
      if not due then
        waiting.tidy(source.kind)
      elseif not first or tonumber(due) < tonumber(first) then
        first = due
      end
    end
  end
  return first or ''
end

-- Returns an answer with all that belongs to these ids: messages, bodies, states, and which of them are cancelled.
local function answer_with(ids, due, told)
  return {
    ids, each('HMGET', key.messages, ids), each('HMGET', key.bodies, ids),
    any(key.states) and each('HMGET', key.states, ids) or {},
    any(key.cancelled) and each('SMISMEMBER', key.cancelled, ids) or {}, due, told,
  }
end

-- Hands out; also says when something will fall due, and what the worker should not run.
function claims.hand_out(asked)
  leases.reclaim()
  local sources = asked.limit > 0 and sources_of(asked) or {}
  local ids = {}
  for i, member in ipairs(choose(sources, asked.limit)) do
    ids[i] = string.sub(member, 9)
  end
  for _, source in ipairs(sources) do
    if source.taken > 0 then
      call('ZREMRANGEBYRANK', source.kind.wait, 0, source.taken - 1)
    end
  end
  leases.begin(ids, asked.token, now + asked.lease)
  local due = ''
  if #ids < asked.limit and #asked.queues > 0 then
    due = next_due(sources)
    ground.idle = true
  end
  local answer = answer_with(ids, due)
  local ended = {}
  for i, cancelled in ipairs(answer[5]) do
    if cancelled == 1 then
      ended[#ended + 1] = ids[i]
    end
  end
  leases.tell(asked.token, ended)
  answer[7] = leases.told(asked.worker)
  return answer
end

-- Returns an answer without what is stored anyway: enough to give it once more.
function claims.brief(asked, answer)
  return { asked.token, answer[1], answer[6], answer[7] }
end

-- Gives an answer once more: what is still held under its token.
function claims.again(brief)
  return answer_with((leases.split(brief[1], brief[2])), brief[3], brief[4])
end
