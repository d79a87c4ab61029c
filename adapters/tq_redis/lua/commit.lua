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
  local read = { solo = {}, removes = {}, records = {}, rearms = {}, holds = {}, holding = {}, refused = {}, lost = {} }
  local function lose(id, token)
    read.refused[#read.refused + 1], read.refused[#read.refused + 2] = id, token
    read.lost[receipt(id, token)] = true
  end
  for _ = 1, number() do
    local id, token = take(), take()
    if leases.holds(id, token) then
      read.solo[#read.solo + 1] = id
    else
      lose(id, token)
    end
  end
  for _ = 1, number() do
    local token, ids, kept = take(), list(), list()
    leases.expect(token)
    local held, lost = leases.split(token, ids)
    read.removes[#read.removes + 1] = { token = token, ids = held }
    for _, id in ipairs(lost) do
      lose(id, token)
    end
    for i, packed in ipairs(kept) do -- the records that they leave, or ""
      if packed ~= '' and not read.lost[receipt(ids[i], token)] then
        read.records[#read.records + 1] = records.fresh(ids[i], packed)
      end
    end
  end
  for _ = 1, number() do
    local again = commit.read_rearm()
    leases.expect(again.token)
    if leases.holds(again.id, again.token) then
      read.rearms[#read.rearms + 1] = again
    else
      lose(again.id, again.token)
    end
  end
  for _ = 1, number() do
    local hold = { id = take(), token = take(), flow = take() }
    leases.expect(hold.token)
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
    messages = {}, records = {}, flows = {}, marks = {}, confirms = {}, rows = {}, chunks = {}, spreads = {},
    notes = {}, resolved = {}, reopens = {}, verdicts = {}, known = {}, opening = {}, resolving = {},
  }
end

-- Whether an id names a member or the join of one of these flows.
local function is_of(known, id)
  return known and known[string.match(id, '^(.*)%.') or ''] or false
end

-- Reads a flow. Of one that is there already nothing is written, nor what comes with it: its members may have run, and
-- left no trace.
local function read_flow(pool, known)
  local flow = flows.read()
  if pool.opening[flow.id] or flows.known(flow.id) then
    known[flow.id] = true
    pool.known[#pool.known + 1] = flow.id
  else
    pool.opening[flow.id] = true
    pool.flows[#pool.flows + 1] = flow
  end
end

-- Readers by kind: each reads one effect of this kind into the pool, but for what belongs to a known flow.
local READERS = {
  messages = function(pool, _, known)
    local row = messages.fresh(take(), take(), take())
    if not is_of(known, row.id) then
      pool.messages[#pool.messages + 1] = row
    end
  end,
  records = function(pool)
    pool.records[#pool.records + 1] = records.fresh(take(), take())
  end,
  marks = function(pool, fenced)
    pool.marks[#pool.marks + 1] = marks.read(fenced)
  end,
  confirms = function(pool)
    pool.confirms[#pool.confirms + 1] = { take(), number() }
  end,
  rows = function(pool, _, known)
    local row = rows.read()
    if not (is_of(known, row[1]) or known and known[row[1]]) then
      pool.rows[#pool.rows + 1] = row
    end
  end,
  chunks = function(pool)
    pool.chunks[#pool.chunks + 1] = { take(), number(), take() }
  end,
  spreads = function(pool, _, known)
    local spread = { take(), number() }
    if not (known and known[spread[1]]) then
      pool.spreads[#pool.spreads + 1] = spread
    end
  end,
  notes = function(pool)
    pool.notes[#pool.notes + 1] = { take(), take(), take() }
  end,
  verdicts = function(pool)
    pool.verdicts[#pool.verdicts + 1] = { take(), take(), take() }
  end,
  reopens = function(pool)
    pool.reopens[#pool.reopens + 1] = { take(), number(), take(), number(), take(), take() }
  end,
}

local read_effects

-- Reads the end of a held task: it has effects only while this flow holds it, and once.
local function read_resolve(pool, holding)
  local task, flow, size = take(), take(), number()
  local held = holding[task] or call('HGET', key.held, task)
  if flow == '' or held ~= flow or pool.resolving[task] then
    skip(size)
    return
  end
  pool.resolving[task] = true
  pool.resolved[#pool.resolved + 1] = { task, flow }
  local brought = #pool.records
  read_effects(pool, holding, true)
  -- Who ends it does not have its body at hand.
  for i = brought + 1, #pool.records do
    if pool.records[i].id == task then
      records.add_body(pool.records[i], messages.row(task))
    end
  end
end

-- Reads the effects of one ending, flows first; `fenced` says that its lease, or its hold, was there.
read_effects = function(pool, holding, fenced)
  local known
  for _ = 1, number() do
    local kind = take()
    local read = READERS[kind]
    if kind == 'flows' then
      known = {}
    end
    for _ = 1, number() do
      if read then
        read(pool, fenced, known)
      elseif kind == 'flows' then
        read_flow(pool, known)
      else
        read_resolve(pool, holding)
      end
    end
  end
end

local function read_pool(endings)
  local pool = new_pool()
  pool.records = endings.records
  for _ = 1, number() do
    local id, token, size = take(), take(), number()
    if endings.lost[receipt(id, token)] then
      skip(size)
    else
      read_effects(pool, endings.holding, true)
    end
  end
  for _ = 1, number() do -- nobody's lease stands behind these
    read_effects(pool, endings.holding, false)
  end
  return pool
end

-- Looks at everything that will be written to.
local function expect(pool)
  for _, flow in ipairs(pool.flows) do
    flows.expect(flow.id)
    messages.join(flow.join, now)
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
    messages.join(reopen[3], now)
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
      closed[#closed + 1] = flow.id
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
        closed[#closed + 1] = id
      end
    end
  end
  for _, id in ipairs(marks.write(pool.marks)) do
    closed[#closed + 1] = id
  end
  -- Steps come before deadlines: what the marks have decided stays decided.
  for _, verdict in ipairs(pool.verdicts) do
    if flows.close(unpack(verdict)) then
      closed[#closed + 1] = verdict[1]
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
  local pool = read_pool(endings)
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
