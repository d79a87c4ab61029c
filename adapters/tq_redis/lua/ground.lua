-- What every script stands on: where it is, what time it is, its arguments, and commands with many arguments.
--
-- KEYS  the root of all names, "{namespace}": every key begins with it, so that a cluster keeps them on one node. It is
--       no key itself, and stands beside one that is: while a cluster moves them to another node, two keys of which
--       one is not there are put off by either node, so that no script ever sees a part of them
-- ARGV  verb, present ("" for the server's own), slot of the answer ("" for verbs that only look), number of the call,
--       name of the caller, and then what the verb takes

-- The rooms, each filled by the file of its name.
local ground, waiting, messages, leases, claims, whereabouts = {}, {}, {}, {}, {}, {}
local records, ledger, rows, shards, flows, marks, commit, verbs = {}, {}, {}, {}, {}, {}, {}, {}

local root = KEYS[1]
local call = redis.call

-- A command takes no more arguments than Lua has room for on its stack, about 8,000. Even: pairs stay together.
local WIDE = 4000

-- Names of a fixed type; `check` looks at them before anything is written.
local TYPES = {
  messages = 'hash', bodies = 'hash', states = 'hash', ids = 'zset', seq = 'string', running = 'hash',
  ['until'] = 'zset', alone = 'set', cancelled = 'set', held = 'hash', laned = 'hash', queues = 'set', paused = 'set',
  workers = 'hash', idle = 'string',
  records = 'hash', ['records:at'] = 'zset', ['records:expires'] = 'zset', ['records:dead'] = 'zset',
  outcomes = 'hash', ['outcomes:carried'] = 'zset', ['outcomes:open'] = 'zset', chunks = 'hash', ['chunks:at'] = 'zset',
  topics = 'set', noted = 'string', flows = 'hash', joins = 'hash', ['flows:open'] = 'zset', ['flows:ids'] = 'zset',
  ['flows:closed'] = 'zset', ['flows:deadline'] = 'zset', ['flows:todo'] = 'zset', ['flows:done'] = 'zset',
  rows = 'zset', layout = 'string',
}

local key = {}
for name in pairs(TYPES) do
  key[name] = root .. ':' .. name
end

local now = tonumber(ARGV[2])
if not now then
  local time = call('TIME')
  now = time[1] + time[2] / 1000000
end

-- Whether something may have become due that somebody waits for.
ground.added = false

-- Refuses to go on where a key is not what it is taken for. Called before the first write: a script that fails later
-- leaves what it has written.
function ground.expect(name, wanted)
  local found = call('TYPE', name).ok
  if found ~= wanted and found ~= 'none' then
    error({ err = 'TQFOREIGN ' .. name .. ' is a ' .. found .. ' and should be a ' .. wanted })
  end
end

function ground.check()
  for name, wanted in pairs(TYPES) do
    ground.expect(key[name], wanted)
  end
end

-- Returns whether any of our keys is there.
function ground.settled()
  for name in pairs(TYPES) do
    if call('EXISTS', key[name]) == 1 then
      return true
    end
  end
  return false
end

function ground.refuse(why)
  error({ err = 'TQREFUSED ' .. why })
end

-- --- arguments ---------------------------------------------------------------------------------------------------

local at = 6

local function take()
  at = at + 1
  return ARGV[at - 1]
end

local function number()
  return tonumber(take())
end

-- Returns a list whose length comes first.
local function list()
  local size = number()
  local found = {}
  for i = 1, size do
    found[i] = ARGV[at + i - 1]
  end
  at = at + size
  return found
end

-- Answers yes or no.
local function flags(given)
  return given and 1 or 0
end

-- Passes over arguments that are not wanted.
local function skip(count)
  at = at + count
end

-- --- commands ----------------------------------------------------------------------------------------------------

-- Makes a command of many arguments in as many calls as it takes; returns the sum of the answers.
local function many(command, name, arguments)
  local sum = 0
  for i = 1, #arguments, WIDE do
    sum = sum + call(command, name, unpack(arguments, i, math.min(i + WIDE - 1, #arguments)))
  end
  return sum
end

-- As `many`, for commands that answer once per argument; false stands for nothing.
local function each(command, name, arguments)
  if #arguments <= WIDE then
    return #arguments == 0 and {} or call(command, name, unpack(arguments))
  end
  local found = {}
  for i = 1, #arguments, WIDE do
    for _, value in ipairs(call(command, name, unpack(arguments, i, math.min(i + WIDE - 1, #arguments)))) do
      found[#found + 1] = value
    end
  end
  return found
end

-- Whether a key is there: what is not there need not be asked once per message.
local there = {}

local function any(name)
  if there[name] == nil then
    there[name] = call('EXISTS', name) == 1
  end
  return there[name]
end

-- Notes that a key is there now.
local function appeared(name)
  there[name] = true
end

-- Returns a number as text that keeps all of it. Answers cut fractions off, and the many instants of one call are few
-- different ones: writing each out again would cost more than what is done with it.
local texts = {}

local function text(value)
  local found = texts[value]
  if not found then
    found = string.format('%.17g', value)
    texts[value] = found
  end
  return found
end

-- Compares by bytes, as the server's sorted sets do; Lua's own `<` goes by the server's locale.
function ground.less(one, other)
  for i = 1, math.min(#one, #other) do
    local a, b = string.byte(one, i), string.byte(other, i)
    if a ~= b then
      return a < b
    end
  end
  return #one < #other
end

-- Returns up to `limit` members of a sorted set, from the largest (score, member) downwards, that are smaller than the
-- given pair; a score of "" begins at the top. Costs the same however many members share a score.
function ground.page(name, score, member, limit)
  if score == '' then
    return call('ZREVRANGE', name, 0, limit - 1)
  end
  local low = call('ZCOUNT', name, '(' .. score, '+inf')
  local high = low + call('ZCOUNT', name, score, score)
  while low < high do
    local middle = math.floor((low + high) / 2)
    if ground.less(call('ZREVRANGE', name, middle, middle)[1], member) then
      high = middle
    else
      low = middle + 1
    end
  end
  return call('ZREVRANGE', name, low, low + limit - 1)
end
