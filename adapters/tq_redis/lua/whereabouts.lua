-- Where live messages are: looked up, listed, counted. No body is touched.

-- Returns what is known of each live message.
function whereabouts.locate(ids)
  local found = {}
  for _, id in ipairs(ids) do
    local row = messages.row(id)
    if row then
      found[#found + 1] = {
        id, row.queue, row.type, text(row.run_at), row.generation, row.attempt,
        call('ZSCORE', key['until'], id) or '', call('HGET', key.running, id) or '', row.crashes,
        call('HGET', key.held, id) or '', call('SISMEMBER', key.cancelled, id), row.stats,
      }
    end
  end
  return found
end

-- Returns a page of live messages by id, and where to go on: a bounded number is looked at.
function whereabouts.list(queue, after, limit)
  local from = after == '' and '-' or '(' .. after
  local ids = call('ZRANGEBYLEX', key.ids, from, '+', 'LIMIT', 0, limit)
  local found = {}
  for _, place in ipairs(whereabouts.locate(ids)) do
    if queue == '' or place[2] == queue then
      found[#found + 1] = place
    end
  end
  return { found, #ids == limit and ids[#ids] or '' }
end

-- Returns per queue how many are due, delayed, running and held.
function whereabouts.counts()
  local counts = {}
  local function count(queue, state, value)
    if value > 0 then
      counts[queue] = counts[queue] or { queue, 0, 0, 0, 0 }
      counts[queue][state] = counts[queue][state] + value
    end
  end
  for _, queue in ipairs(call('SMEMBERS', key.queues)) do
    for _, type in ipairs(call('SMEMBERS', waiting.types_of(queue))) do
      local kind = waiting.kind(queue, type)
      for _, name in ipairs({ kind.wait, kind.behind }) do
        local due = call('ZCOUNT', name, '-inf', now)
        count(queue, 2, due)
        count(queue, 3, call('ZCARD', name) - due)
      end
    end
    count(queue, 5, call('SCARD', waiting.held_of(queue)))
  end
  for _, value in ipairs(each('HMGET', key.messages, call('HKEYS', key.running))) do
    if value then
      count(messages.queue_of(value), 4, 1)
    end
  end
  local found = {}
  for _, counted in pairs(counts) do
    found[#found + 1] = counted
  end
  return found
end
