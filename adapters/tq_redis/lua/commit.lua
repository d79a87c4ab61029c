-- One hop: endings behind their leases, then everything they bring, then the claim.
--
-- All of it is read and looked at first: nothing has been written yet when something is refused, and from the first
-- write on nothing can fail.

-- --- endings -----------------------------------------------------------------------------------------------------

local function receipt(id, token)
  return #id .. ':' .. id .. token
end

-- Reads endings and finds out which of them have lost their lease.
local function read_endings()
  local read = { solo = {}, removes = {}, rearms = {}, holds = {}, holding = {}, refused = {}, lost = {} }
  local function lose(id, token)
    read.refused[#read.refused + 1], read.refused[#read.refused + 2] = id, token
    read.lost[receipt(id, token)] = true
  end
  for _ = 1, number() do
    local id, token = take(), take()
    if leases.holds(id, token) then
      read.solo[#read.solo + 1] = id
    end
  end
  for _ = 1, number() do
    local token = take()
    local held, lost = leases.split(token, list())
    read.removes[#read.removes + 1] = { token = token, ids = held }
    for _, id in ipairs(lost) do
      lose(id, token)
    end
  end
  for _ = 1, number() do
    local again = commit.read_rearm()
    if leases.holds(again.id, again.token) then
      read.rearms[#read.rearms + 1] = again
    else
      lose(again.id, again.token)
    end
  end
  for _ = 1, number() do
    local hold = { id = take(), token = take(), flow = take() }
    if leases.holds(hold.id, hold.token) then
      read.holds[#read.holds + 1] = hold
      read.holding[hold.id] = hold.flow
    else
      lose(hold.id, hold.token)
    end
  end
  return read
end

function commit.read_rearm()
  return {
    id = take(), token = take(), run_at = number(), attempt = number(), stats = take(), unknown_since = number(),
  }
end

local function write_endings(read)
  for _, id in ipairs(read.solo) do
    leases.solo(id)
  end
  for _, group in ipairs(read.removes) do
    leases.finish(group.ids, group.token)
    messages.remove(group.ids)
  end
  for _, again in ipairs(read.rearms) do
    leases.rearm(again.id, again.token, again)
  end
  for _, hold in ipairs(read.holds) do
    leases.hold(hold.id, hold.token, hold.flow)
  end
  waiting.flush()
end

-- --- effects -----------------------------------------------------------------------------------------------------

local function new_pool()
  return {
    messages = {}, records = {}, flows = {}, marks = {}, confirms = {}, rows = {}, chunks = {}, spreads = {}, notes = {},
    resolved = {}, reopens = {}, verdicts = {}, known = {}, opening = {}, resolving = {},
  }
end

local function add(values, ...)
  for _, value in ipairs({ ... }) do
    values[#values + 1] = value
  end
end

-- Readers by kind: each reads one effect of this kind into a block.
local READERS = {
  messages = function(block)
    add(block.messages, take(), take())
  end,
  records = function(block)
    add(block.records, take(), take())
  end,
  flows = function(block)
    add(block.flows, flows.read())
  end,
  marks = function(block)
    add(block.marks, marks.read(block.fenced))
  end,
  confirms = function(block)
    add(block.confirms, { take(), number() })
  end,
  rows = function(block)
    add(block.rows, rows.read())
  end,
  chunks = function(block)
    add(block.chunks, { take(), number(), take() })
  end,
  spreads = function(block)
    add(block.spreads, { take(), number() })
  end,
  notes = function(block)
    add(block.notes, { take(), take(), take() })
  end,
  verdicts = function(block)
    add(block.verdicts, { take(), take(), take() })
  end,
  reopens = function(block)
    add(block.reopens, { take(), number(), take(), number(), take(), take() })
  end,
}

local POOLED = {
  'messages', 'records', 'flows', 'marks', 'confirms', 'rows', 'chunks', 'spreads', 'notes', 'verdicts', 'reopens',
}

local function flow_of(id)
  return string.match(id, '^(.*)%.') or ''
end

-- Leaves out what starts flows that are there already: their members may have run, and left no trace.
local function without_known(block, pool)
  local fresh, known = {}, {}
  for _, flow in ipairs(block.flows) do
    if pool.opening[flow.id] or flows.known(flow.id) then
      known[flow.id] = true
      add(pool.known, flow.id)
    else
      pool.opening[flow.id] = true
      add(fresh, flow)
    end
  end
  block.flows = fresh
  if not next(known) then
    return
  end
  local sent, found, spreads = {}, {}, {}
  for i = 1, #block.messages, 2 do
    if not known[flow_of(block.messages[i])] then
      add(sent, block.messages[i], block.messages[i + 1])
    end
  end
  for _, row in ipairs(block.rows) do
    if not known[flow_of(row[1])] then
      add(found, row)
    end
  end
  for _, spread in ipairs(block.spreads) do
    if not known[spread[1]] then
      add(spreads, spread)
    end
  end
  block.messages, block.rows, block.spreads = sent, found, spreads
end

local read_effects

-- Reads the end of a held task: it has effects only while this flow holds it, and once.
local function read_resolve(block, pool, holding)
  local task, flow, size = take(), take(), number()
  local held = holding[task] or call('HGET', key.held, task)
  if flow == '' or held ~= flow or pool.resolving[task] then
    skip(size)
    return
  end
  pool.resolving[task] = true
  local brought = #pool.records
  read_effects(pool, holding, true)
  -- Who ends it does not have its body at hand.
  local row = messages.row(task)
  for i = brought + 1, #pool.records, 2 do
    if pool.records[i] == task then
      pool.records[i + 1] = records.with_body(pool.records[i + 1], row)
    end
  end
  add(pool.resolved, { task, flow })
end

-- Reads the effects of one ending; `fenced` says that its lease, or its hold, was there.
read_effects = function(pool, holding, fenced)
  local block = { fenced = fenced }
  for _, kind in ipairs(POOLED) do
    block[kind] = {}
  end
  for _ = 1, number() do
    local kind = take()
    for _ = 1, number() do
      if kind == 'resolves' then
        read_resolve(block, pool, holding)
      else
        READERS[kind](block)
      end
    end
  end
  without_known(block, pool)
  for _, kind in ipairs(POOLED) do
    for _, effect in ipairs(block[kind]) do
      add(pool[kind], effect)
    end
  end
end

local function read_blocks(endings)
  local pool = new_pool()
  for _ = 1, number() do
    local id, token, size = take(), take(), number()
    if token ~= '' and endings.lost[receipt(id, token)] then
      skip(size)
    else
      read_effects(pool, endings.holding, token ~= '')
    end
  end
  return pool
end

local function expect_join(join)
  messages.expect({ '', string.sub(join, 5 + struct.unpack('<I4', join)) })
end

-- Looks at everything that will be written to.
local function expect(pool)
  messages.expect(pool.messages)
  records.expect(pool.records)
  for _, flow in ipairs(pool.flows) do
    flows.expect(flow.id)
    expect_join(flow.join)
  end
  local seen = {}
  for _, mark in ipairs(pool.marks) do
    if not seen[mark.flow_id] then
      seen[mark.flow_id] = true
      flows.expect(mark.flow_id)
    end
  end
  for _, kind in ipairs({ 'confirms', 'spreads', 'verdicts', 'reopens' }) do
    for _, effect in ipairs(pool[kind]) do
      flows.expect(effect[1])
    end
  end
  for _, reopen in ipairs(pool.reopens) do
    expect_join(reopen[3])
  end
  for _, row in ipairs(pool.rows) do
    rows.expect(row)
  end
  for _, note in ipairs(pool.notes) do
    ledger.expect_note(note[1])
  end
end

-- Writes what the endings bring; returns the flows decided by it, and the ids of messages that were taken.
local function write_effects(pool)
  for _, resolve in ipairs(pool.resolved) do
    messages.resolve(resolve[1], resolve[2])
  end
  records.write(pool.records)
  local closed = {}
  for _, flow in ipairs(pool.flows) do
    if flows.open(flow) then
      add(closed, flow.id)
    end
  end
  for _, reopen in ipairs(pool.reopens) do
    local id, generation, join, at, deadline, stats = unpack(reopen)
    local missing = flows.reopen(id, generation, join, text(at), deadline)
    if missing then
      for i, index in ipairs(missing) do
        missing[i] = id .. '.' .. index
      end
      records.revive(missing, at, stats)
      if flows.load(id).verdict ~= '' then -- nobody was missing
        add(closed, id)
      end
    end
  end
  for _, id in ipairs(marks.write(pool.marks)) do
    add(closed, id)
  end
  -- Steps come before deadlines: what the marks have decided stays decided.
  for _, verdict in ipairs(pool.verdicts) do
    if flows.close(unpack(verdict)) then
      add(closed, verdict[1])
    end
  end
  for _, confirm in ipairs(pool.confirms) do
    flows.confirm(unpack(confirm))
  end
  for _, spread in ipairs(pool.spreads) do
    flows.advance(spread[1], spread[2], '')
  end
  local taken = messages.insert(pool.messages)
  flows.release(closed)
  for _, chunk in ipairs(pool.chunks) do
    ledger.put_chunk(unpack(chunk))
  end
  for _, note in ipairs(pool.notes) do
    ledger.put_note(unpack(note))
  end
  for _, row in ipairs(pool.rows) do
    rows.write(row)
  end
  return closed, taken
end

-- Returns the receipts that were lost, the flows decided, the ids taken and the flows known, beside the claim's answer.
function commit.write()
  local endings = read_endings()
  local pool = read_blocks(endings)
  local asked = number() == 1 and claims.read() or nil
  expect(pool)
  if asked then
    claims.expect(asked)
  end
  write_endings(endings)
  local closed, taken = write_effects(pool)
  local answer = { endings.refused, flows.states(closed), taken, flows.states(pool.known) }
  return answer, asked, asked and claims.hand_out(asked)
end
