-- The verbs: each reads its arguments, looks at what it will write to, writes, and answers.

local LAYOUT = 1

-- --- those that only look ----------------------------------------------------------------------------------------

verbs.looks = {
  locate = function()
    return whereabouts.locate(list())
  end,
  list = function()
    return whereabouts.list(take(), take(), number())
  end,
  counts = function()
    return whereabouts.counts()
  end,
  paused = function()
    return call('SMEMBERS', key.paused)
  end,
  announced = function()
    return ledger.served(false)
  end,
  records = function()
    return each('HMGET', key.records, list())
  end,
  list_records = function()
    return records.page(take() == '1', take(), take(), number())
  end,
  outcomes = function()
    return ledger.outcomes(list())
  end,
  uncarried = function()
    return ledger.uncarried(take(), number())
  end,
  chunk = function()
    return call('HGET', key.chunks, take())
  end,
  outgoing = function()
    return ledger.notes(take(), number())
  end,
  stats = function()
    return ledger.stats()
  end,
  flows = function()
    return flows.states(list())
  end,
  list_flows = function()
    return flows.page(take() == '1', take(), take(), number())
  end,
  results = function()
    return marks.results(take(), number(), number())
  end,
  due = function()
    return flows.due(take(), number())
  end,
  quiet = function()
    return flows.quiet(number(), take(), number())
  end,
  rows = function()
    return rows.get(list())
  end,
  find_rows = function()
    return rows.page(take(), take(), take(), take(), number())
  end,
  shards = function()
    return shards.list(take())
  end,
}

-- --- those that write --------------------------------------------------------------------------------------------

-- Calls `each_one` with receipts that hold; returns those that were lost.
local function with_receipts(each_one)
  local lost = {}
  for _ = 1, number() do
    local id, token = take(), take()
    if not leases.holds(id, token) then
      lost[#lost + 1], lost[#lost + 2] = id, token
    else
      each_one(id, token)
    end
  end
  waiting.flush()
  return lost
end

local function read_marks()
  local found = {}
  for i = 1, number() do
    found[i] = marks.read(false)
    flows.expect(found[i].flow_id)
  end
  return found
end

verbs.writes = {
  -- Takes the namespace for tq, or finds out whose it is: "" or the number of its layout.
  open = function()
    local layout = call('GET', key.layout)
    if layout then
      return layout
    end
    if ground.settled() then
      return ''
    end
    call('SET', key.layout, LAYOUT)
    return tostring(LAYOUT)
  end,
  add = function()
    return messages.insert(messages.read())
  end,
  claim = function()
    local asked = claims.read()
    claims.expect(asked)
    return {}, asked, claims.hand_out(asked)
  end,
  ack = function()
    return with_receipts(function(id, token)
      leases.finish({ id }, token)
      messages.remove({ id })
    end)
  end,
  release = function()
    return with_receipts(leases.release)
  end,
  solo = function()
    return with_receipts(leases.solo)
  end,
  rearm = function()
    local lost = {}
    for _ = 1, number() do
      local again = commit.read_rearm()
      if leases.holds(again.id, again.token) then
        leases.rearm(again.id, again.token, again)
      else
        lost[#lost + 1], lost[#lost + 2] = again.id, again.token
      end
    end
    waiting.flush()
    return lost
  end,
  renew = function()
    local lease, cancelled = number(), {}
    local lost = with_receipts(function(id, token)
      leases.renew(id, token, lease)
      if any(key.cancelled) and call('SISMEMBER', key.cancelled, id) == 1 then
        cancelled[#cancelled + 1], cancelled[#cancelled + 2] = id, token
      end
    end)
    return { lost, cancelled }
  end,
  cancel = function()
    return messages.cancel(list())
  end,
  pause = function()
    local queue, paused = take(), take() == '1'
    call(paused and 'SADD' or 'SREM', key.paused, queue)
    ground.added = not paused
  end,
  announce = function()
    ledger.announce(take(), number(), take())
  end,
  move = function()
    return flags(leases.move(take(), take(), take(), number()))
  end,
  park = function()
    return flags(messages.park(messages.fresh(take(), take(), take()), take(), number()))
  end,
  put = function()
    local given, holders = {}, {}
    for i = 1, number() do
      given[i], holders[i] = messages.fresh(take(), take(), take()), take()
    end
    for i, row in ipairs(given) do
      messages.put(row, holders[i])
    end
  end,
  resolve = function()
    return flags(messages.resolve(take(), take()))
  end,
  append = function()
    local lane, given = take(), messages.read()
    if lane == '' or call('EXISTS', waiting.lane(lane)) == 0 then
      return 0
    end
    messages.insert(given)
    return 1
  end,
  record = function()
    records.write(records.read())
  end,
  revive = function()
    return records.revive(list(), number(), take())
  end,
  forget = function()
    return records.forget(list())
  end,
  put_outcomes = function()
    return ledger.put_outcomes(list(), list())
  end,
  carried = function()
    ledger.carried(list())
  end,
  put_chunks = function()
    for _ = 1, number() do
      ledger.put_chunk(take(), number(), take())
    end
  end,
  put_outgoing = function()
    local given = list()
    for i = 1, #given, 3 do
      ledger.expect_note(given[i])
    end
    for i = 1, #given, 3 do
      ledger.put_note(given[i], given[i + 1], given[i + 2])
    end
  end,
  sent = function()
    for _ = 1, number() do
      ledger.sent(take(), take(), number())
    end
  end,
  purge = function()
    local at, before, limit = number(), number(), number()
    local gone = records.purge(at, limit)
    return gone + ledger.purge(before, limit)
  end,
  init = function()
    local given, ids = {}, {}
    for i = 1, number() do
      given[i] = flows.read()
      ids[i] = given[i].id
      flows.expect(ids[i])
    end
    for _, flow in ipairs(given) do
      if not flows.known(flow.id) then
        flows.open(flow)
      end
    end
    return flows.states(ids)
  end,
  mark = function()
    local given, ids, seen = read_marks(), {}, {}
    for _, mark in ipairs(given) do
      if not seen[mark.flow_id] then
        seen[mark.flow_id] = true
        ids[#ids + 1] = mark.flow_id
      end
    end
    marks.write(given)
    return flows.states(ids)
  end,
  abort = function()
    local id = take()
    flows.close(id, take(), take())
    return flows.states({ id })
  end,
  confirm = function()
    for _ = 1, number() do
      flows.confirm(take(), number())
    end
  end,
  reopen = function()
    return flows.reopen(take(), number(), take(), take(), take()) or 0
  end,
  advance = function()
    flows.advance(take(), take(), take())
  end,
  purge_flows = function()
    return flows.purge(number(), number())
  end,
  write_rows = function()
    local given = {}
    for i = 1, number() do
      given[i] = rows.read()
      rows.expect(given[i])
    end
    for _, row in ipairs(given) do
      rows.write(row)
    end
  end,
  create_shards = function()
    shards.create(shards.read())
  end,
  swap_shards = function()
    return shards.swap(shards.read())
  end,
  drop_shards = function()
    shards.drop(shards.read())
  end,
  commit = function()
    return commit.write()
  end,
}
