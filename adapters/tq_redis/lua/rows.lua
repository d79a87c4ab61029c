-- Projection rows: one hash per task or flow, which anybody may read, and sorted sets to find them by.
--
--   row:<task id>                          the fields below
--   rows                                   task ids by updated_at
--   rows:<length>:<entity type>            those of one type of entity
--   rows:<length>:<entity type>:<id>       those of one entity

local NAMES = {
  'task_id', 'entity_id', 'entity_type', 'task_type', 'queue_id', 'status', 'version', 'created_at', 'updated_at',
  'payload', 'result', 'error',
}
local LAST_REQUIRED = 9

local function row_key(task_id)
  return root .. ':row:' .. task_id
end

-- Returns the set in which rows of this kind stand; "" stands for any.
local function index(entity_type, entity_id)
  if entity_type == '' then
    return key.rows
  end
  return root .. ':rows:' .. #entity_type .. ':' .. entity_type .. (entity_id == '' and '' or ':' .. entity_id)
end

-- Reads a row: its fields in order, and a mask of those among the last three that are there.
function rows.read()
  local row, present = {}, take()
  for i in ipairs(NAMES) do
    row[i] = take()
    if i > LAST_REQUIRED and string.sub(present, i - LAST_REQUIRED, i - LAST_REQUIRED) == '0' then
      row[i] = false
    end
  end
  return row
end

function rows.expect(row)
  ground.expect(row_key(row[1]), 'hash')
  ground.expect(index(row[3], ''), 'zset')
  ground.expect(index(row[3], row[2]), 'zset')
  local updated_at = tonumber(row[9])
  if not updated_at or updated_at ~= updated_at then
    ground.refuse('updated_at of the row of ' .. row[1] .. ' is no number')
  end
end

-- Writes a row if its version is larger than the stored one's.
function rows.write(row)
  local name = row_key(row[1])
  local old = call('HMGET', name, 'version', 'entity_type', 'entity_id')
  if old[1] then
    if tonumber(old[1]) >= tonumber(row[7]) then
      return
    end
    call('ZREM', index(old[2], ''), row[1])
    call('ZREM', index(old[2], old[3]), row[1])
    call('DEL', name)
  end
  local fields = {}
  for i, field in ipairs(NAMES) do
    if row[i] then
      fields[#fields + 1], fields[#fields + 2] = field, row[i]
    end
  end
  call('HSET', name, unpack(fields))
  call('ZADD', key.rows, row[9], row[1])
  call('ZADD', index(row[3], ''), row[9], row[1])
  call('ZADD', index(row[3], row[2]), row[9], row[1])
end

function rows.get(task_ids)
  local found = {}
  for i, task_id in ipairs(task_ids) do
    found[i] = call('HMGET', row_key(task_id), unpack(NAMES))
  end
  return found
end

-- Returns a page, newest first.
function rows.page(entity_type, entity_id, at, task_id, limit)
  return rows.get(ground.page(index(entity_type, entity_id), at, task_id, limit))
end
