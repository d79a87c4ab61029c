-- The claim: take back what dead workers left, choose what is due, and hand it out under a lease.

-- Makes due again what was left under leases that have run out: a crash is counted.
CREATE FUNCTION tq_reclaim(now float8) RETURNS void
AS $$
BEGIN
    IF EXISTS (SELECT FROM tq_messages WHERE token <> '' AND until <= now) THEN
        WITH dead AS MATERIALIZED (
            SELECT id FROM tq_messages WHERE token <> '' AND until <= now ORDER BY until LIMIT 10000
            FOR UPDATE SKIP LOCKED
        )
        UPDATE tq_messages m SET
            token = '', until = 0, solo = false, ready = m.held = '', ended = m.ended + 1, crashes = m.crashes + 1,
            solo_crashes = m.solo_crashes + m.solo::int
        FROM dead WHERE m.id = dead.id;
    END IF;
END $$ LANGUAGE plpgsql :plans;

-- How many of each kind are among the first due, taken together. Counted before any is locked: to lock too many would
-- hide them from other workers.
CREATE FUNCTION tq_quotas(queues text[], types text[], limits int[], now float8, most int) RETURNS int[]
AS $$
DECLARE
    first bigint[];
BEGIN
    IF cardinality(queues) = 1 THEN
        RETURN ARRAY[least(limits[1], most)];
    END IF;
    first := ARRAY (
        SELECT k.place FROM unnest(queues, types, limits) WITH ORDINALITY AS k (queue, type, cap, place)
        CROSS JOIN LATERAL (
            SELECT m.due, m.seq FROM tq_messages m
            WHERE m.ready AND m.queue = k.queue AND m.type = k.type AND m.due <= now
            ORDER BY m.due, m.seq LIMIT least(k.cap, most)) d
        ORDER BY d.due, d.seq LIMIT most);
    RETURN ARRAY (
        SELECT (SELECT count(*)::int FROM unnest(first) f WHERE f = k) FROM generate_subscripts(queues, 1) k ORDER BY k);
END $$ LANGUAGE plpgsql :plans;

-- Hands out up to `most` due messages, those that came due first before the others; of a (queue, type) no more than its
-- cap. Rows come in any order. The last one has no id: it tells when something will fall due, where fewer came, and
-- which deliveries of this worker are to be cancelled.
CREATE FUNCTION tq_claim(
    served text[], most int, new_token text, lease float8, capped_queues text[], capped_types text[], caps int[]
) RETURNS TABLE (
    id text, queue text, type text, body bytea, run_at float8, generation int, attempt int, lane text, stats bytea,
    fence bigint, handed bigint, crashes int, solo_crashes int, unknown_since float8, cancelled boolean,
    due float8, seq bigint, told_ids text[], told_tokens text[]
)
AS $$
#variable_conflict use_column
DECLARE
    now float8 := tq_now();
    worker text := split_part(new_token, ':', 1);
    queues text[];
    types text[];
    limits int[];
    open int[];
    quotas int[];
    before int;
    got int;
    total int := 0;
    next_due float8;
BEGIN
    PERFORM tq_reclaim(now);
    -- The types that wait, by queue: one step of the index for each, however many messages there are.
    WITH RECURSIVE kinds AS (
        SELECT s.queue, (
            SELECT m.type FROM tq_messages m WHERE m.ready AND m.queue = s.queue ORDER BY m.type LIMIT 1) AS type
        FROM (SELECT DISTINCT unnest(served) COLLATE "C" AS queue) s
        WHERE NOT EXISTS (SELECT FROM tq_paused p WHERE p.queue = s.queue)
        UNION ALL
        SELECT k.queue, (
            SELECT m.type FROM tq_messages m WHERE m.ready AND m.queue = k.queue AND m.type > k.type
            ORDER BY m.type LIMIT 1)
        FROM kinds k WHERE k.type IS NOT NULL
    ), capped AS (
        SELECT k.queue, k.type, coalesce(
            (SELECT c.cap FROM unnest(capped_queues, capped_types, caps) c (queue, type, cap)
             WHERE c.queue = k.queue AND c.type = k.type), most + 1) AS cap
        FROM kinds k WHERE k.type IS NOT NULL
    )
    SELECT array_agg(c.queue), array_agg(c.type), array_agg(c.cap) INTO queues, types, limits
    FROM capped c WHERE c.cap > 0;
    open := limits;
    WHILE queues IS NOT NULL AND total < most LOOP
        quotas := tq_quotas(queues, types, open, now, most - total);
        before := total;
        FOR kind IN 1 .. cardinality(queues) LOOP
            CONTINUE WHEN quotas[kind] = 0;
            -- By where the row lies: to look it up by its id takes longer the more is stored. Of a row that was changed
            -- in this very instant the new version is not seen; the next claim sees it.
            RETURN QUERY
            WITH taken AS MATERIALIZED (
                SELECT m.ctid FROM tq_messages m
                WHERE m.ready AND m.queue = queues[kind] AND m.type = types[kind] AND m.due <= now
                ORDER BY m.due, m.seq LIMIT quotas[kind] FOR UPDATE SKIP LOCKED
            )
            UPDATE tq_messages m SET ready = false, token = new_token, until = now + lease
            FROM taken WHERE m.ctid = taken.ctid
            RETURNING m.id, m.queue, m.type, m.body, m.run_at, m.generation, m.attempt, m.lane, m.stats, m.fence,
                m.fence + m.ended + 1, m.crashes, m.solo_crashes, m.unknown_since, m.cancelled_at > 0,
                m.due, m.seq, NULL::text[], NULL::text[];
            GET DIAGNOSTICS got = ROW_COUNT;
            limits[kind] := limits[kind] - got;
            -- Of this kind others hold the rest; there may be more of another one.
            open[kind] := CASE WHEN got < quotas[kind] THEN 0 ELSE limits[kind] END;
            total := total + got;
        END LOOP;
        EXIT WHEN cardinality(queues) = 1 OR total - before = (SELECT sum(q) FROM unnest(quotas) q);
    END LOOP;
    IF total < most THEN
        next_due := least(
            (SELECT min(n.due) FROM unnest(queues, types, limits) k (queue, type, cap) CROSS JOIN LATERAL (
                SELECT m.due FROM tq_messages m
                WHERE m.ready AND m.queue = k.queue AND m.type = k.type AND m.due > now
                ORDER BY m.due LIMIT 1) n
             WHERE k.cap > 0),
            (SELECT m.until FROM tq_messages m WHERE m.token <> '' ORDER BY m.until LIMIT 1));
    END IF;
    RETURN QUERY
    SELECT NULL::text, NULL::text, NULL::text, NULL::bytea, NULL::float8, NULL::int, NULL::int, NULL::text, NULL::bytea,
        NULL::bigint, NULL::bigint, NULL::int, NULL::int, NULL::float8, NULL::boolean,
        next_due, NULL::bigint, array_agg(m.id), array_agg(m.token)
    FROM tq_messages m
    WHERE m.cancelled_at > 0 AND m.token > worker || ':' AND m.token < worker || ';';  -- ";" comes right after ":"
END $$ LANGUAGE plpgsql :plans;
