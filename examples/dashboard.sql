-- What a dashboard asks of tq's own SQLite file: one row per task or flow that names an entity, one per ending that is
-- kept, one per flow. Reading disturbs no worker. After `tq demo`:
--
--     sqlite3 -box -readonly tq-demo.db < examples/dashboard.sql

-- How do things stand with each entity? Its newest row says so.
SELECT entity_type, entity_id, task_type, status, error,
       datetime(max(updated_at), 'unixepoch') AS updated,
       round(updated_at - created_at, 3) AS seconds
FROM tq_projections
GROUP BY entity_type, entity_id
ORDER BY updated_at DESC
LIMIT 50;

-- How many ended how, by hour and type?
SELECT strftime('%Y-%m-%d %H:00', at, 'unixepoch') AS hour, queue, type, status, count(*) AS tasks
FROM tq_records
GROUP BY hour, queue, type, status
ORDER BY hour DESC, tasks DESC, type, status
LIMIT 50;

-- Why do tasks fail for good? Errors that occur most, with one task to look at.
SELECT type, substr(error, 1, 80) AS error, count(*) AS tasks, max(task_id) AS for_example
FROM tq_records
WHERE dead = 1
GROUP BY type, substr(error, 1, 80)
ORDER BY tasks DESC
LIMIT 20;

-- Which flows are open, and how far are they?
SELECT id, total, succeeded, failed, remaining, datetime(started_at, 'unixepoch') AS started
FROM tq_flows
WHERE verdict IS NULL
ORDER BY started_at
LIMIT 50;

-- What waits, by queue and type, and since when?
SELECT queue, type, count(*) AS tasks, datetime(min(due), 'unixepoch') AS oldest
FROM tq_waiting
GROUP BY queue, type
ORDER BY tasks DESC;
