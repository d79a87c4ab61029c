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

-- Returns a dead letter with the body of its message, where it lacks one: without it, it could not be replayed.
function records.with_body(packed, row)
  local record = records.parse(packed)
  if not record.dead or record.has_body then
    return packed
  end
  local fence = math.max(record.fence, row.fence + row.ended)
  local flags = struct.unpack('<I4', packed, 29) + BODY
  local body = string.sub(row.value, messages.parse(row.value, 9).body_at)
  return string.sub(packed, 1, 24) .. struct.pack('<I4I4', fence, flags) .. string.sub(packed, 33) .. body
end

function records.expect(pairs_of)
  for i = 2, #pairs_of, 2 do
    local record = records.parse(pairs_of[i])
    if record.at ~= record.at or record.expires ~= record.expires then
      ground.refuse('an instant of the record of ' .. pairs_of[i - 1] .. ' is no number')
    end
  end
end

-- Inserts; over a record of the same id only if the generation is larger.
function records.write(pairs_of)
  if #pairs_of == 0 then
    return
  end
  local ids, generations = {}, {}
  for i = 1, #pairs_of, 2 do
    ids[#ids + 1] = pairs_of[i]
  end
  local kept = any(key.records) and each('HMGET', key.records, ids) or {}
  for i, id in ipairs(ids) do
    if kept[i] then
      generations[id] = records.parse(kept[i]).generation
    end
  end
  local values, at, expires, dead = {}, {}, {}, {}
  for i, id in ipairs(ids) do
    local packed = pairs_of[2 * i]
    local record = records.parse(packed)
    if not generations[id] or record.generation > generations[id] then
      if generations[id] then
        call('ZREM', key['records:dead'], id)
      end
      generations[id] = record.generation
      values[#values + 1], values[#values + 2] = id, packed
      at[#at + 1], at[#at + 2] = record.at, id
      expires[#expires + 1], expires[#expires + 2] = record.expires, id
      if record.dead then
        dead[#dead + 1], dead[#dead + 2] = record.at, id
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
      found[#found + 1], found[#found + 2] = id, messages.pack(row, string.sub(packed, record.body_at))
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
