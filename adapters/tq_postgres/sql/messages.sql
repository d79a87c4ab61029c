-- Messages: how they come in, are replaced, cancelled, and ended without a lease.
--
-- Of arrays that describe rows, all have one length. Rows go in by the order of their keys, so that two calls that write
-- the same ones wait for each other instead of locking each other out. Places are those of the arguments, from 1.

-- The server's present; in virtual time, that of the clock.
CREATE FUNCTION tq_now() RETURNS float8
AS $$
    SELECT coalesce(
        nullif(current_setting('tq.now', true), '')::float8, extract(epoch FROM clock_timestamp())::float8)
$$ LANGUAGE sql;

-- Wakes those who listen, once the transaction has committed.
CREATE FUNCTION tq_wake() RETURNS void
AS $$ SELECT pg_notify(:channel, '') $$ LANGUAGE sql;

-- The places that are not among those that were hit; NULL for none.
CREATE FUNCTION tq_missed(most int, hit bigint[]) RETURNS bigint[]
AS $$
BEGIN
    IF coalesce(cardinality(hit), 0) = most THEN
        RETURN NULL;
    END IF;
    RETURN (SELECT array_agg(place) FROM generate_series(1, most) place WHERE place <> ALL (coalesce(hit, '{}')));
END $$ LANGUAGE plpgsql;

-- Holds lanes until the transaction ends: nobody else adds to them, or lets their next one go, meanwhile.
CREATE FUNCTION tq_hold_lanes(named text[]) RETURNS void
AS $$
BEGIN
    INSERT INTO tq_lanes (lane) SELECT DISTINCT lane COLLATE "C" FROM unnest(named) lane WHERE lane <> '' ORDER BY 1
    ON CONFLICT (lane) DO UPDATE SET lane = excluded.lane;
END $$ LANGUAGE plpgsql :plans;

-- Lets the oldest of each lane wait for its time, unless it runs or is held; forgets lanes that are empty.
CREATE FUNCTION tq_promote(named text[]) RETURNS void
AS $$
BEGIN
    PERFORM tq_hold_lanes(named);
    UPDATE tq_messages m SET ready = true
    FROM (SELECT DISTINCT lane COLLATE "C" AS lane FROM unnest(named) lane WHERE lane <> '') l
    CROSS JOIN LATERAL (SELECT id FROM tq_messages o WHERE o.lane = l.lane AND o.lane <> '' ORDER BY o.seq LIMIT 1) head
    WHERE m.id = head.id AND m.token = '' AND m.held = '' AND NOT m.ready;
    DELETE FROM tq_lanes l
    WHERE l.lane = ANY (named) AND NOT EXISTS (SELECT FROM tq_messages m WHERE m.lane = l.lane AND m.lane <> '');
END $$ LANGUAGE plpgsql :plans;

-- Inserts what is neither live nor recorded; returns the places whose id was taken.
CREATE FUNCTION tq_add(
    ids text[], queues text[], types text[], bodies bytea[], run_ats float8[], generations int[], attempts int[],
    lanes text[], all_stats bytea[], fences bigint[]
) RETURNS bigint[]
AS $$
DECLARE
    base bigint := nextval('tq_order');
    in_lanes boolean := EXISTS (SELECT FROM unnest(lanes) lane WHERE lane <> '');
    fresh text[];
    hit bigint[];
    recorded text[];
BEGIN
    IF in_lanes THEN
        PERFORM tq_hold_lanes(lanes);
    END IF;
    WITH added AS (
        INSERT INTO tq_messages
            (id, queue, type, body, run_at, due, generation, attempt, lane, stats, fence, seq, ready)
        SELECT u.id, u.queue, u.type, u.body, u.run_at, u.run_at, u.generation, u.attempt, u.lane, u.stats, u.fence,
            base + u.place, u.lane = ''
        FROM unnest(ids, queues, types, bodies, run_ats, generations, attempts, lanes, all_stats, fences)
            WITH ORDINALITY AS u (id, queue, type, body, run_at, generation, attempt, lane, stats, fence, place)
        ORDER BY u.id COLLATE "C", u.place
        ON CONFLICT (id) DO NOTHING
        RETURNING id, seq - base AS place
    )
    SELECT array_agg(id), array_agg(place) INTO fresh, hit FROM added;
    -- Looked up after the insert, which has waited for whoever was ending a task of that very id.
    SELECT array_agg(task_id) INTO recorded FROM tq_records WHERE task_id = ANY (fresh);
    IF recorded IS NOT NULL THEN
        DELETE FROM tq_messages WHERE id = ANY (recorded);
        hit := ARRAY (SELECT place FROM unnest(hit, fresh) f (place, id) WHERE f.id <> ALL (recorded));
    END IF;
    IF in_lanes THEN
        PERFORM tq_promote(lanes);
    END IF;
    IF cardinality(hit) > 0 THEN
        PERFORM tq_wake();
    END IF;
    RETURN tq_missed(cardinality(ids), hit);
END $$ LANGUAGE plpgsql :plans;

-- Adds behind the lane's messages; false where it has none.
CREATE FUNCTION tq_append(
    behind text, ids text[], queues text[], types text[], bodies bytea[], run_ats float8[], generations int[],
    attempts int[], lanes text[], all_stats bytea[], fences bigint[]
) RETURNS boolean
AS $$
BEGIN
    PERFORM tq_hold_lanes(ARRAY[behind]);
    IF behind = '' OR NOT EXISTS (SELECT FROM tq_messages WHERE lane = behind AND lane <> '') THEN
        DELETE FROM tq_lanes WHERE lane = behind;
        RETURN false;
    END IF;
    PERFORM tq_add(ids, queues, types, bodies, run_ats, generations, attempts, lanes, all_stats, fences);
    RETURN true;
END $$ LANGUAGE plpgsql :plans;

-- Inserts a message that is running; false where the id is live.
CREATE FUNCTION tq_park(
    id text, queue text, type text, body bytea, run_at float8, generation int, attempt int, lane text, stats bytea,
    fence bigint, token text, lease float8
) RETURNS boolean
AS $$
#variable_conflict use_variable
BEGIN
    IF lane <> '' THEN
        PERFORM tq_hold_lanes(ARRAY[lane]);
    END IF;
    INSERT INTO tq_messages
        (id, queue, type, body, run_at, due, generation, attempt, lane, stats, fence, seq, ready, token, until)
    VALUES
        (id, queue, type, body, run_at, run_at, generation, attempt, lane, stats, fence, nextval('tq_order'), false,
         token, tq_now() + lease)
    ON CONFLICT DO NOTHING;
    RETURN FOUND;
END $$ LANGUAGE plpgsql :plans;

-- Inserts or, over an older execution, replaces: whoever ran the older one has lost it. A flow named holds the message.
CREATE FUNCTION tq_put(
    ids text[], queues text[], types text[], bodies bytea[], run_ats float8[], generations int[], attempts int[],
    lanes text[], all_stats bytea[], fences bigint[], holders text[]
) RETURNS void
AS $$
DECLARE
    new record;
BEGIN
    PERFORM tq_hold_lanes(lanes);
    FOR new IN
        SELECT u.* FROM unnest(
            ids, queues, types, bodies, run_ats, generations, attempts, lanes, all_stats, fences, holders
        ) WITH ORDINALITY AS u (id, queue, type, body, run_at, generation, attempt, lane, stats, fence, held, place)
        ORDER BY u.id COLLATE "C", u.place
    LOOP
        INSERT INTO tq_messages AS m
            (id, queue, type, body, run_at, due, generation, attempt, lane, stats, fence, seq, ready, held)
        VALUES
            (new.id, new.queue, new.type, new.body, new.run_at, new.run_at, new.generation, new.attempt, new.lane,
             new.stats, new.fence, nextval('tq_order') + new.place, new.lane = '' AND new.held = '', new.held)
        ON CONFLICT (id) DO UPDATE SET
            body = new.body, run_at = new.run_at, generation = new.generation, attempt = new.attempt,
            stats = new.stats, fence = new.fence, held = new.held, token = '', until = 0, solo = false,
            due = CASE WHEN m.cancelled_at > 0 THEN least(new.run_at, m.cancelled_at) ELSE new.run_at END,
            ended = greatest(m.fence + m.ended + (m.token <> '')::int - new.fence, 0),
            -- Else it stands behind another one of its lane, as it did.
            ready = new.held = '' AND (m.ready OR m.token <> '' OR m.held <> '')
        WHERE (m.generation, m.attempt) < (new.generation, new.attempt);
    END LOOP;
    PERFORM tq_promote(lanes);
    PERFORM tq_wake();
END $$ LANGUAGE plpgsql :plans;

-- Ends messages that these flows hold; returns the places where that is not so. A dead letter of such a task keeps its
-- body, so that it can be replayed: whoever resolves does not have it at hand.
CREATE FUNCTION tq_resolve(ids text[], flows text[]) RETURNS bigint[]
AS $$
DECLARE
    hit bigint[];
    lanes text[];
BEGIN
    WITH gone AS (
        DELETE FROM tq_messages m USING unnest(ids, flows) WITH ORDINALITY AS u (id, flow, place)
        WHERE m.id = u.id AND m.held = u.flow AND u.flow <> ''
        RETURNING u.place, m.id, m.lane, m.body, m.fence + m.ended AS fence
    ), kept AS (
        UPDATE tq_records r SET body = gone.body, fence = greatest(r.fence, gone.fence)
        FROM gone WHERE r.task_id = gone.id AND r.dead AND r.body IS NULL
    )
    SELECT array_agg(place), array_agg(lane) FILTER (WHERE lane <> '') INTO hit, lanes FROM gone;
    IF lanes IS NOT NULL THEN
        PERFORM tq_promote(lanes);
    END IF;
    RETURN tq_missed(cardinality(ids), hit);
END $$ LANGUAGE plpgsql :plans;

-- Asks for these to end: what waits is due at once, what runs is told; returns the ids found.
CREATE FUNCTION tq_cancel(ids text[]) RETURNS text[]
AS $$
DECLARE
    now float8 := tq_now();
    found text[];
BEGIN
    PERFORM FROM tq_messages WHERE id = ANY (ids) ORDER BY id FOR UPDATE;
    UPDATE tq_messages SET cancelled_at = now, due = least(run_at, now) WHERE id = ANY (ids) AND cancelled_at = 0;
    SELECT array_agg(id) INTO found FROM tq_messages WHERE id = ANY (ids);
    IF found IS NOT NULL THEN
        PERFORM tq_wake();
    END IF;
    RETURN found;
END $$ LANGUAGE plpgsql :plans;

CREATE FUNCTION tq_pause(name text, paused boolean) RETURNS void
AS $$
BEGIN
    IF paused THEN
        INSERT INTO tq_paused (queue) VALUES (name) ON CONFLICT DO NOTHING;
    ELSE
        DELETE FROM tq_paused WHERE queue = name;
        PERFORM tq_wake();
    END IF;
END $$ LANGUAGE plpgsql :plans;

-- Notes what a worker serves, in place of what it said before; forgets workers that have fallen silent.
CREATE FUNCTION tq_announce(name text, queues text[], ttl float8) RETURNS void
AS $$
BEGIN
    DELETE FROM tq_workers WHERE worker = name OR until <= tq_now();
    INSERT INTO tq_workers (worker, queue, until) SELECT DISTINCT name, queue, tq_now() + ttl FROM unnest(queues) queue
    ON CONFLICT (worker, queue) DO UPDATE SET until = excluded.until;
END $$ LANGUAGE plpgsql :plans;
