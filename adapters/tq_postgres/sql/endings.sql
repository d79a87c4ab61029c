-- What is kept beside messages: records, outcomes, parts of plans, notes, projection rows.

-- Refuses a whole commit, naming the places of what it cannot carry out; the caller leaves these out and tries again.
CREATE FUNCTION tq_expect(what text, places bigint[]) RETURNS void
AS $$
BEGIN
    IF places IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'TQ000', MESSAGE = what, DETAIL = array_to_json(places)::text;
    END IF;
END $$ LANGUAGE plpgsql;

-- Inserts; over a record of the same id only if the generation is larger.
CREATE FUNCTION tq_record(
    ids text[], queues text[], types text[], statuses text[], ats float8[], expires float8[], generations int[],
    attempts int[], fences bigint[], deads boolean[], results bytea[], errors text[], all_stats bytea[], bodies bytea[]
) RETURNS void
AS $$
BEGIN
    INSERT INTO tq_records AS r
        (task_id, queue, type, status, at, expires_at, generation, attempt, fence, dead, result, error, stats, body)
    SELECT DISTINCT ON (u.task_id COLLATE "C") u.task_id, u.queue, u.type, u.status, u.at, u.expires_at, u.generation,
        u.attempt, u.fence, u.dead, u.result, u.error, u.stats, u.body
    FROM unnest(
        ids, queues, types, statuses, ats, expires, generations, attempts, fences, deads, results, errors, all_stats,
        bodies
    ) WITH ORDINALITY AS u (
        task_id, queue, type, status, at, expires_at, generation, attempt, fence, dead, result, error, stats, body, place)
    ORDER BY u.task_id COLLATE "C", u.generation DESC, u.place
    ON CONFLICT (task_id) DO UPDATE SET
        queue = excluded.queue, type = excluded.type, status = excluded.status, at = excluded.at,
        expires_at = excluded.expires_at, generation = excluded.generation, attempt = excluded.attempt,
        fence = excluded.fence, dead = excluded.dead, result = excluded.result, error = excluded.error,
        stats = excluded.stats, body = excluded.body
    WHERE excluded.generation > r.generation;
END $$ LANGUAGE plpgsql :plans;

-- Turns records that kept a body into messages of the next generation; returns the ids revived, in order.
CREATE FUNCTION tq_revive(ids text[], due_at float8, new_stats bytea) RETURNS text[]
AS $$
DECLARE
    old tq_records[];
BEGIN
    PERFORM FROM tq_records WHERE task_id = ANY (ids) ORDER BY task_id FOR UPDATE;
    old := ARRAY (
        SELECT r FROM (SELECT id, min(place) AS place FROM unnest(ids) WITH ORDINALITY u (id, place) GROUP BY id) u
        JOIN tq_records r ON r.task_id = u.id
        WHERE r.body IS NOT NULL AND NOT EXISTS (SELECT FROM tq_messages m WHERE m.id = r.task_id)
        ORDER BY u.place);
    DELETE FROM tq_records WHERE task_id = ANY (ARRAY (SELECT (o).task_id FROM unnest(old) o));
    PERFORM tq_add(
        array_agg(o.task_id), array_agg(o.queue), array_agg(o.type), array_agg(o.body), array_agg(due_at),
        array_agg(o.generation + 1), array_agg(0), array_agg(''::text), array_agg(new_stats), array_agg(o.fence))
    FROM unnest(old) o HAVING count(*) > 0;
    RETURN ARRAY (SELECT o.task_id FROM unnest(old) o);
END $$ LANGUAGE plpgsql :plans;

CREATE FUNCTION tq_forget(ids text[]) RETURNS text[]
AS $$
DECLARE
    gone text[];
BEGIN
    WITH dropped AS (DELETE FROM tq_records WHERE task_id = ANY (ids) RETURNING task_id)
    SELECT array_agg(task_id) INTO gone FROM dropped;
    RETURN gone;
END $$ LANGUAGE plpgsql :plans;

-- Records each outcome unless its key has one; returns the places of those that had.
CREATE FUNCTION tq_put_outcomes(
    ids text[], generations int[], attempts int[], outcomes bytea[], recorded_at float8
) RETURNS bigint[]
AS $$
DECLARE
    fresh bigint[];
BEGIN
    WITH first AS (
        SELECT DISTINCT ON (u.task_id, u.generation, u.attempt) u.*
        FROM unnest(ids, generations, attempts, outcomes) WITH ORDINALITY
            AS u (task_id, generation, attempt, outcome, place)
        ORDER BY u.task_id, u.generation, u.attempt, u.place
    ), added AS (
        INSERT INTO tq_outcomes (task_id, generation, attempt, outcome, at)
        SELECT f.task_id, f.generation, f.attempt, f.outcome, recorded_at FROM first f
        ORDER BY f.task_id COLLATE "C", f.generation, f.attempt
        ON CONFLICT DO NOTHING
        RETURNING task_id, generation, attempt
    )
    SELECT array_agg(f.place) INTO fresh FROM added a
    JOIN first f ON (f.task_id, f.generation, f.attempt) = (a.task_id, a.generation, a.attempt);
    RETURN tq_missed(cardinality(ids), fresh);
END $$ LANGUAGE plpgsql :plans;

CREATE FUNCTION tq_carry(ids text[], generations int[], attempts int[]) RETURNS void
AS $$
BEGIN
    UPDATE tq_outcomes o SET carried = true FROM unnest(ids, generations, attempts) u (task_id, generation, attempt)
    WHERE o.task_id = u.task_id AND o.generation = u.generation AND o.attempt = u.attempt;
END $$ LANGUAGE plpgsql :plans;

-- Writes parts of plans; one that is there stays as it is. `holders` are the places of the parts that messages belong to.
CREATE FUNCTION tq_put_chunks(
    plans text[], numbers int[], ats float8[], holders bigint[], places int[], ids text[], queues text[], types text[],
    bodies bytea[], run_ats float8[], generations int[], attempts int[], lanes text[], all_stats bytea[], fences bigint[]
) RETURNS void
AS $$
DECLARE
    fresh bigint[];
BEGIN
    FOR part IN 1 .. cardinality(plans) LOOP
        INSERT INTO tq_chunks (plan, number, at) VALUES (plans[part], numbers[part], ats[part]) ON CONFLICT DO NOTHING;
        IF FOUND THEN
            fresh := fresh || part::bigint;
        END IF;
    END LOOP;
    INSERT INTO tq_chunk_messages
        (plan, number, place, id, queue, type, body, run_at, generation, attempt, lane, stats, fence)
    SELECT plans[u.holder], numbers[u.holder], u.place, u.id, u.queue, u.type, u.body, u.run_at, u.generation, u.attempt,
        u.lane, u.stats, u.fence
    FROM unnest(
        holders, places, ids, queues, types, bodies, run_ats, generations, attempts, lanes, all_stats, fences
    ) AS u (holder, place, id, queue, type, body, run_at, generation, attempt, lane, stats, fence)
    WHERE u.holder = ANY (fresh);
END $$ LANGUAGE plpgsql :plans;

-- Appends notes in order; one whose (topic, id) is there stays as it is.
CREATE FUNCTION tq_note(topics text[], ids text[], bodies bytea[]) RETURNS void
AS $$
BEGIN
    INSERT INTO tq_outgoing (topic, id, body)
    SELECT u.topic, u.id, u.body FROM unnest(topics, ids, bodies) WITH ORDINALITY AS u (topic, id, body, place)
    ORDER BY u.place
    ON CONFLICT (topic, id) DO NOTHING;
END $$ LANGUAGE plpgsql :plans;

-- Writes each row whose version is larger than the stored one's; of one call the first of the largest.
CREATE FUNCTION tq_project(
    ids text[], entity_ids text[], entity_types text[], task_types text[], queues text[], statuses text[],
    versions bigint[], created float8[], updated float8[], payloads text[], results text[], errors text[]
) RETURNS void
AS $$
BEGIN
    INSERT INTO tq_projections AS p
        (task_id, entity_id, entity_type, task_type, queue_id, status, version, created_at, updated_at, payload, result,
         error)
    SELECT DISTINCT ON (u.task_id COLLATE "C") u.task_id, u.entity_id, u.entity_type, u.task_type, u.queue_id, u.status,
        u.version, u.created_at, u.updated_at, u.payload::json, u.result::json, u.error
    FROM unnest(
        ids, entity_ids, entity_types, task_types, queues, statuses, versions, created, updated, payloads, results, errors
    ) WITH ORDINALITY AS u (
        task_id, entity_id, entity_type, task_type, queue_id, status, version, created_at, updated_at, payload, result,
        error, place)
    ORDER BY u.task_id COLLATE "C", u.version DESC, u.place
    ON CONFLICT (task_id) DO UPDATE SET
        entity_id = excluded.entity_id, entity_type = excluded.entity_type, task_type = excluded.task_type,
        queue_id = excluded.queue_id, status = excluded.status, version = excluded.version,
        created_at = excluded.created_at, updated_at = excluded.updated_at, payload = excluded.payload,
        result = excluded.result, error = excluded.error
    WHERE excluded.version > p.version;
END $$ LANGUAGE plpgsql :plans;

-- Drops what retention allows, at most about so many rows; returns how many.
CREATE FUNCTION tq_purge(now float8, before float8, most int) RETURNS int
AS $$
DECLARE
    total int := 0;
    gone int;
BEGIN
    DELETE FROM tq_records WHERE task_id = ANY (ARRAY (
        SELECT task_id FROM tq_records WHERE expires_at <= now ORDER BY expires_at LIMIT most FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS total = ROW_COUNT;
    WITH old AS MATERIALIZED (  -- chosen once: a subquery may be asked again for every row, and choose others each time
        SELECT task_id, generation, attempt FROM tq_outcomes WHERE carried AND at < before
        ORDER BY at LIMIT greatest(most - total, 0) FOR UPDATE SKIP LOCKED
    )
    DELETE FROM tq_outcomes o USING old
    WHERE o.task_id = old.task_id AND o.generation = old.generation AND o.attempt = old.attempt;
    GET DIAGNOSTICS gone = ROW_COUNT;
    total := total + gone;
    WITH old AS MATERIALIZED (
        SELECT plan, number FROM tq_chunks WHERE at < before ORDER BY at LIMIT greatest(most - total, 0)
        FOR UPDATE SKIP LOCKED
    ), messages AS (
        DELETE FROM tq_chunk_messages m USING old WHERE m.plan = old.plan AND m.number = old.number
    )
    DELETE FROM tq_chunks c USING old WHERE c.plan = old.plan AND c.number = old.number;
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN total + gone;
END $$ LANGUAGE plpgsql :plans;
