-- Leases on the shards of streams: rows that workers agree by.
--
--   shards:<stream>  shard → row: a line of JSON with counter and owner, which fences, and a line with the rest

local function shards_key(stream)
  return root .. ':shards:' .. stream
end

-- Reads what is asked: of each row its stream and shard, how it begins if it is as it was seen, and what it is to be.
function shards.read()
  local asked = {}
  for i = 1, number() do
    asked[i] = { name = shards_key(take()), shard = take(), head = take(), row = take() }
    ground.expect(asked[i].name, 'hash')
  end
  return asked
end

function shards.list(stream)
  return call('HGETALL', shards_key(stream))
end

function shards.create(asked)
  for _, it in ipairs(asked) do
    call('HSETNX', it.name, it.shard, it.row)
  end
end

-- Returns the row if it is as it was seen.
local function unchanged(it)
  local row = call('HGET', it.name, it.shard)
  return row and string.sub(row, 1, #it.head) == it.head, row
end

-- Changes each row that is as it was seen; answers 1 for each that is as wanted now.
function shards.swap(asked)
  local done = {}
  for i, it in ipairs(asked) do
    local same, row = unchanged(it)
    if same then
      call('HSET', it.name, it.shard, it.row)
    end
    done[i] = flags(same or row == it.row)
  end
  return done
end

function shards.drop(asked)
  for _, it in ipairs(asked) do
    if unchanged(it) then
      call('HDEL', it.name, it.shard)
    end
  end
end
