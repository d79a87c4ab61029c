-- How tasks ended: records, dead letters among them, and how they become messages again.
--
--   records          id → record
--   records:at       ids by the instant of the ending
--   records:expires  ids by the instant after which they may be dropped
--   records:dead     ids of dead letters by the instant of the ending

-- at, expires_at, generation, attempt, fence, flags; lengths of queue, type, status, result, error and stats; then
-- these six, and the body.
local RECORD = '<ddI4I4I4I4I4I4I4I4I4I4'
local DEAD, BODY = 1, 8 -- flags

function records.parse(packed)
  local at, expires, generation, attempt, fence, flags, q, t, st, r, e, s, place = struct.unpack(RECORD, packed)
  return {
    at = at, expires = expires, generation = generation, attempt = attempt, fence = fence,
    dead = flags % 2 >= DEAD, has_body = flags % (2 * BODY) >= BODY,
    queue = string.sub(packed, place, place + q - 1),
    type = string.sub(packed, place + q, place + q + t - 1),
    body_at = place + q + t + st + r + e + s,
  }
end

-- Gives a dead letter the body of its message, where it lacks one: without it, it could not be replayed.
function records.add_body(fresh, row)
  local packed = fresh.packed
  local record = records.parse(packed)
  if not record.dead or record.has_body then
    return
  end
  local fence = math.max(record.fence, row.fence + row.ended)
  local flags = struct.unpack('<I4', packed, 29) + BODY
  fresh.packed = string.sub(packed, 1, 24) .. struct.pack('<I4I4', fence, flags) .. string.sub(packed, 33)
    .. call('HGET', key.bodies, row.id)
end

-- Returns a record that is to be written.
function records.fresh(id, packed)
  local at, expires, generation, _, _, flags = struct.unpack(RECORD, packed)
  if at ~= at or expires ~= expires then
    ground.refuse('an instant of the record of ' .. id .. ' is no number')
  end
  return {
    id = id, packed = packed, at = at, expires = expires, generation = generation, dead = flags % 2 >= DEAD,
  }
end

-- Reads a list of ids and packed records by turns.
function records.read()
  local found = {}
  for i = 1, number() / 2 do
    found[i] = records.fresh(take(), take())
  end
  return found
end

-- Inserts; over a record of the same id only if the generation is larger.
function records.write(fresh)
  if #fresh == 0 then
    return
  end
  local ids, generations = {}, {}
  for i, record in ipairs(fresh) do
    ids[i] = record.id
  end
  local kept = any(key.records) and each('HMGET', key.records, ids) or {}
  for i, id in ipairs(ids) do
    if kept[i] then
      generations[id] = records.parse(kept[i]).generation
    end
  end
  local values, at, expires, dead = {}, {}, {}, {}
  for _, record in ipairs(fresh) do
    local id = record.id
    if not generations[id] or record.generation > generations[id] then
      if generations[id] then
        call('ZREM', key['records:dead'], id)
      end
      generations[id] = record.generation
      local size = #values
      values[size + 1], values[size + 2] = id, record.packed
      at[size + 1], at[size + 2] = text(record.at), id
      expires[size + 1], expires[size + 2] = text(record.expires), id
      if record.dead then
        dead[#dead + 1], dead[#dead + 2] = text(record.at), id
      end
    end
  end
  many('HSET', key.records, values)
  many('ZADD', key['records:at'], at)
  many('ZADD', key['records:expires'], expires)
  many('ZADD', key['records:dead'], dead)
  appeared(key.records)
  appeared(key['records:expires'])
end

-- Removes; returns the ids removed.
function records.forget(ids)
  local gone = {}
  for _, id in ipairs(ids) do
    if call('HDEL', key.records, id) == 1 then
      gone[#gone + 1] = id
    end
  end
  many('ZREM', key['records:at'], gone)
  many('ZREM', key['records:expires'], gone)
  many('ZREM', key['records:dead'], gone)
  return gone
end

-- Turns records that kept a body into messages of the next generation; returns the ids revived.
function records.revive(ids, at, stats)
  local revived, found, seen = {}, {}, {}
  local kept = any(key.records) and each('HMGET', key.records, ids) or {}
  for i, packed in ipairs(kept) do
    local id = ids[i]
    local record = packed and not seen[id] and records.parse(packed)
    seen[id] = true
    if record and record.has_body and call('HEXISTS', key.messages, id) == 0 then
      local row = {
        run_at = at, generation = record.generation + 1, attempt = 0, fence = record.fence,
        queue = record.queue, type = record.type, lane = '', stats = stats,
      }
      revived[#revived + 1] = id
      found[#found + 1] = messages.fresh(id, messages.pack(row), string.sub(packed, record.body_at))
    end
  end
  records.forget(revived)
  messages.insert(found)
  return revived
end

-- Returns a page, newest first: alternately ids and records.
function records.page(dead, at, id, limit)
  local ids = ground.page(dead and key['records:dead'] or key['records:at'], at, id, limit)
  return { ids, each('HMGET', key.records, ids) }
end

function records.purge(at, limit)
  return #records.forget(call('ZRANGEBYSCORE', key['records:expires'], '-inf', text(at), 'LIMIT', 0, limit))
end
