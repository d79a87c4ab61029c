-- What may be handed out once it is due. A message that is neither leased nor held stands in one of two sorted sets of
-- its kind (queue and type), by due time, then by order of adding:
--
--   wait:<kind>     it may be handed out
--   behind:<kind>   an older one of its lane comes first

local kinds = {} -- queue → type → kind
local changed = {}

function waiting.kind(queue, type)
  local of_queue = kinds[queue]
  if not of_queue then
    of_queue = {}
    kinds[queue] = of_queue
  end
  local kind = of_queue[type]
  if not kind then
    local name = #queue .. ':' .. queue .. ':' .. type
    kind = { queue = queue, type = type, wait = root .. ':wait:' .. name, behind = root .. ':behind:' .. name }
    of_queue[type] = kind
  end
  return kind
end

function waiting.types_of(queue)
  return root .. ':types:' .. queue
end

function waiting.lane(name)
  return root .. ':lane:' .. name
end

-- Looks at what messages of this kind will be written to.
function waiting.expect(kind)
  if not kind.seen then
    kind.seen = true
    ground.expect(kind.wait, 'zset')
    ground.expect(kind.behind, 'zset')
    ground.expect(waiting.types_of(kind.queue), 'set')
  end
end

local function first_of(lane)
  return call('ZRANGE', waiting.lane(lane), 0, 0)[1]
end

-- Lets a message wait from now on; takes effect with `flush`, so that many go in at once.
function waiting.enter(row, due)
  local kind = waiting.kind(row.queue, row.type)
  if not kind.entering then
    kind.entering, kind.following = {}, {}
    changed[#changed + 1] = kind
  end
  local entries = kind.entering
  if row.lane ~= '' and first_of(row.lane) ~= row.id then
    entries = kind.following
  end
  local size = #entries
  entries[size + 1], entries[size + 2] = text(due), row.seq .. row.id
end

function waiting.flush()
  for _, kind in ipairs(changed) do
    if #kind.entering > 0 then
      many('ZADD', kind.wait, kind.entering)
      ground.added = true
    end
    many('ZADD', kind.behind, kind.following)
    call('SADD', waiting.types_of(kind.queue), kind.type)
    call('SADD', key.queues, kind.queue)
    kind.entering = nil
  end
  changed = {}
end

-- Takes a message out; returns whether it was waiting.
function waiting.leave(row)
  local kind = waiting.kind(row.queue, row.type)
  local member = row.seq .. row.id
  return call('ZREM', kind.wait, member) + call('ZREM', kind.behind, member) > 0
end

-- Lets the oldest of a lane be handed out, if it waits behind one that is gone.
function waiting.promote(lane)
  local id = first_of(lane)
  if not id then
    return
  end
  local row = messages.row(id)
  local kind = waiting.kind(row.queue, row.type)
  local due = call('ZSCORE', kind.behind, row.seq .. id)
  if due then
    call('ZREM', kind.behind, row.seq .. id)
    call('ZADD', kind.wait, due, row.seq .. id)
    ground.added = true
  end
end

function waiting.held_of(queue)
  return root .. ':held:' .. queue
end

-- Forgets a queue of which nothing waits and nothing is held: queues and types may come and go.
function waiting.tidy_queue(queue)
  if call('EXISTS', waiting.types_of(queue), waiting.held_of(queue)) == 0 then
    call('SREM', key.queues, queue)
  end
end

-- Forgets a kind of which nothing waits.
function waiting.tidy(kind)
  if call('EXISTS', kind.wait, kind.behind) == 0 then
    call('SREM', waiting.types_of(kind.queue), kind.type)
    waiting.tidy_queue(kind.queue)
  end
end
