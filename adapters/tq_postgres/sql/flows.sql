-- Flows: opened, counted, closed, opened again; each decided once per generation, and once per step.
--
-- A commit ends with the release of the joins that it has decided: nobody can see a verdict without the join, which
-- therefore is on its way for good. A barrier beside other servers leaves that to its caller.

CREATE FUNCTION tq_verdict(remaining int, succeeded int, failed int, allowed int, needed int) RETURNS text
AS $$
    SELECT CASE WHEN failed > allowed THEN 'aborted' WHEN remaining <= 0 OR succeeded >= needed THEN 'completed' END
$$ LANGUAGE sql IMMUTABLE;

-- The flows as they stand in this very step.
CREATE FUNCTION tq_states(ids text[]) RETURNS tq_flows[]
AS $$
BEGIN
    RETURN ARRAY (SELECT f FROM tq_flows f WHERE f.id = ANY (ids) ORDER BY f.id);
END $$ LANGUAGE plpgsql :plans;

CREATE FUNCTION tq_release_joins(closed text[]) RETURNS void
AS $$
BEGIN
    IF closed IS NULL THEN
        RETURN;
    END IF;
    UPDATE tq_flows SET confirmed = true WHERE id = ANY (closed);
    PERFORM tq_add(
        array_agg(join_id), array_agg(join_queue), array_agg(join_type), array_agg(join_body), array_agg(tq_now()),
        array_agg(join_generation), array_agg(join_attempt), array_agg(join_lane), array_agg(join_stats),
        array_agg(join_fence))
    FROM tq_flows WHERE id = ANY (closed);
END $$ LANGUAGE plpgsql :plans;

-- Stores flows whose id is new; returns those that are closed from the start, for want of members. With `all_new` a flow
-- that is there already has the whole commit refused, naming it: nothing of a second start is written.
CREATE FUNCTION tq_open(
    ids text[], totals int[], alloweds int[], neededs int[], started float8[], generations int[], deadlines float8[],
    cancels boolean[], parents text[], numbers int[], plans text[], metas bytea[], join_ids text[], join_queues text[],
    join_types text[], join_bodies bytea[], join_run_ats float8[], join_generations int[], join_attempts int[],
    join_lanes text[], join_stats bytea[], join_fences bigint[], all_new boolean
) RETURNS text[]
AS $$
DECLARE
    fresh text[];
    closed text[];
BEGIN
    WITH opened AS (
        INSERT INTO tq_flows
            (id, total, allowed, needed, started_at, generation, deadline, cancel_siblings, parent, chunks, plan, meta,
             join_id, join_queue, join_type, join_body, join_run_at, join_generation, join_attempt, join_lane,
             join_stats, join_fence, remaining, opened_at, verdict, closed_at)
        SELECT u.*, u.total, u.started_at, v.verdict, CASE WHEN v.verdict IS NOT NULL THEN tq_now() END
        FROM unnest(
            ids, totals, alloweds, neededs, started, generations, deadlines, cancels, parents, numbers, plans, metas,
            join_ids, join_queues, join_types, join_bodies, join_run_ats, join_generations, join_attempts, join_lanes,
            join_stats, join_fences
        ) AS u (id, total, allowed, needed, started_at)
        CROSS JOIN LATERAL tq_verdict(u.total, 0, 0, u.allowed, u.needed) v (verdict)
        ORDER BY u.id COLLATE "C"
        ON CONFLICT (id) DO NOTHING
        RETURNING id, verdict
    )
    SELECT array_agg(id), array_agg(id) FILTER (WHERE verdict IS NOT NULL) INTO fresh, closed FROM opened;
    IF all_new THEN
        PERFORM tq_expect('flows', (
            SELECT array_agg(place) FROM unnest(ids) WITH ORDINALITY u (id, place)
            WHERE u.id <> ALL (coalesce(fresh, '{}'))));
    END IF;
    RETURN closed;
END $$ LANGUAGE plpgsql :plans;

-- Records unseen members of open flows and decides; returns the flows decided now. `fenced` says that the member's lease
-- was held: then its generation does not matter.
CREATE FUNCTION tq_mark(
    flows text[], indexes int[], statuses text[], generations int[], results bytea[], errors text[], fenced boolean[]
) RETURNS text[]
AS $$
DECLARE
    base bigint := nextval('tq_order');
    closed text[];
BEGIN
    PERFORM FROM tq_flows WHERE id = ANY (flows) ORDER BY id FOR NO KEY UPDATE;
    INSERT INTO tq_late (flow, idx, result)
    SELECT u.flow, u.idx, u.result
    FROM unnest(flows, indexes, statuses, results) WITH ORDINALITY AS u (flow, idx, status, result, place)
    JOIN tq_flows f ON f.id = u.flow
    WHERE f.verdict IS NOT NULL AND u.status = 'success' AND u.idx BETWEEN 0 AND f.total - 1
    ORDER BY u.flow COLLATE "C", u.place
    ON CONFLICT DO NOTHING;
    WITH fresh AS (
        INSERT INTO tq_members (flow, idx, place, status, result, error)
        SELECT u.flow, u.idx, base + u.place, u.status, u.result, u.error
        FROM unnest(flows, indexes, statuses, generations, results, errors, fenced) WITH ORDINALITY
            AS u (flow, idx, status, generation, result, error, fenced, place)
        JOIN tq_flows f ON f.id = u.flow
        WHERE f.verdict IS NULL AND u.idx BETWEEN 0 AND f.total - 1
            AND (u.fenced OR u.generation >= f.generation OR u.status = 'success')
        ORDER BY u.flow COLLATE "C", u.place
        ON CONFLICT DO NOTHING
        RETURNING flow, idx, place, status
    ), counted AS (
        SELECT flow, count(*)::int AS seen, count(*) FILTER (WHERE status = 'success')::int AS succeeded,
            array_agg(idx ORDER BY place) FILTER (WHERE status <> 'success') AS failing
        FROM fresh GROUP BY flow
    ), decided AS (
        UPDATE tq_flows f SET
            remaining = f.remaining - c.seen, succeeded = f.succeeded + c.succeeded,
            failed = f.failed + c.seen - c.succeeded, verdict = v.verdict,
            -- The member whose failure was one too many.
            trigger_index = CASE WHEN v.verdict = 'aborted' THEN c.failing[f.allowed + 1 - f.failed] ELSE -1 END,
            closed_at = CASE WHEN v.verdict IS NOT NULL THEN tq_now() END
        FROM counted c JOIN tq_flows g ON g.id = c.flow
        CROSS JOIN LATERAL tq_verdict(
            g.remaining - c.seen, g.succeeded + c.succeeded, g.failed + c.seen - c.succeeded, g.allowed, g.needed
        ) v (verdict)
        WHERE f.id = c.flow
        RETURNING f.id, f.verdict
    )
    SELECT array_agg(id) INTO closed FROM decided WHERE verdict IS NOT NULL;
    RETURN closed;
END $$ LANGUAGE plpgsql :plans;

-- Closes open flows by deadline or cancel; returns those that it closed.
CREATE FUNCTION tq_close(flows text[], verdicts text[], reasons text[]) RETURNS text[]
AS $$
DECLARE
    closed text[];
BEGIN
    PERFORM FROM tq_flows WHERE id = ANY (flows) ORDER BY id FOR NO KEY UPDATE;
    WITH decided AS (
        UPDATE tq_flows f SET verdict = u.verdict, reason = u.reason, closed_at = tq_now()
        FROM (
            SELECT DISTINCT ON (u.flow) u.* FROM unnest(flows, verdicts, reasons) WITH ORDINALITY
                AS u (flow, verdict, reason, place)
            ORDER BY u.flow, u.place
        ) u WHERE f.id = u.flow AND f.verdict IS NULL
        RETURNING f.id
    )
    SELECT array_agg(id) INTO closed FROM decided;
    RETURN closed;
END $$ LANGUAGE plpgsql :plans;

-- Notes that joins are on their way for good.
CREATE FUNCTION tq_confirm(flows text[], generations int[]) RETURNS void
AS $$
BEGIN
    UPDATE tq_flows f SET confirmed = true FROM unnest(flows, generations) u (id, generation)
    WHERE f.id = u.id AND f.generation = u.generation AND f.verdict IS NOT NULL AND NOT f.confirmed;
END $$ LANGUAGE plpgsql :plans;

-- Notes how far spreading has come: never back.
CREATE FUNCTION tq_spread(flows text[], numbers int[]) RETURNS void
AS $$
BEGIN
    UPDATE tq_flows f SET spread = u.number
    FROM (SELECT flow, max(number) FROM unnest(flows, numbers) u (flow, number) GROUP BY flow) u (flow, number)
    WHERE f.id = u.flow AND f.spread < u.number;
END $$ LANGUAGE plpgsql :plans;

-- Opens the next generation; returns the indexes that are missing again, or NULL if it was not possible. A flow whose
-- join is not yet on its way stays as it is: that join would be lost.
CREATE FUNCTION tq_reopen(
    asked text, next_generation int, next_deadline float8, at float8, next_id text, next_queue text, next_type text,
    next_body bytea, next_run_at float8, next_join_generation int, next_attempt int, next_lane text, next_stats bytea,
    next_fence bigint
) RETURNS int[]
AS $$
#variable_conflict use_column
DECLARE
    flow tq_flows;
    missing int[];
    done int;
    decided text;
BEGIN
    SELECT * INTO flow FROM tq_flows f
    WHERE f.id = asked AND f.generation = next_generation - 1 AND f.verdict IS NOT NULL AND f.confirmed
    FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    DELETE FROM tq_members m WHERE m.flow = asked AND m.status <> 'success';
    INSERT INTO tq_members (flow, idx, place, status, result)
    SELECT l.flow, l.idx, nextval('tq_order'), 'success', l.result FROM tq_late l WHERE l.flow = asked
    ON CONFLICT DO NOTHING;
    DELETE FROM tq_late l WHERE l.flow = asked;
    missing := ARRAY (
        SELECT i FROM generate_series(0, flow.total - 1) i
        WHERE NOT EXISTS (SELECT FROM tq_members m WHERE m.flow = asked AND m.idx = i) ORDER BY i);
    done := flow.total - cardinality(missing);
    decided := tq_verdict(cardinality(missing), done, 0, flow.allowed, flow.needed);
    UPDATE tq_flows f SET
        generation = next_generation, deadline = next_deadline, join_id = next_id, join_queue = next_queue,
        join_type = next_type, join_body = next_body, join_run_at = next_run_at,
        join_generation = next_join_generation, join_attempt = next_attempt, join_lane = next_lane,
        join_stats = next_stats, join_fence = next_fence, remaining = cardinality(missing), succeeded = done, failed = 0,
        verdict = decided, reason = '', trigger_index = -1,
        closed_at = CASE WHEN decided IS NOT NULL THEN tq_now() END, opened_at = at, confirmed = false, tidied = false
    WHERE f.id = asked;
    RETURN missing;
END $$ LANGUAGE plpgsql :plans;

-- Opens the next generation inside a commit: members that are missing again run again. Returns the flow if nothing was
-- missing, so that it was decided at once.
CREATE FUNCTION tq_redrive(
    asked text, next_generation int, next_deadline float8, at float8, next_id text, next_queue text, next_type text,
    next_body bytea, next_run_at float8, next_join_generation int, next_attempt int, next_lane text, next_stats bytea,
    next_fence bigint, member_stats bytea
) RETURNS text[]
AS $$
DECLARE
    missing int[] := tq_reopen(
        asked, next_generation, next_deadline, at, next_id, next_queue, next_type, next_body, next_run_at,
        next_join_generation, next_attempt, next_lane, next_stats, next_fence);
BEGIN
    IF missing IS NULL THEN
        RETURN NULL;
    END IF;
    PERFORM tq_revive(ARRAY (SELECT asked || '.' || i FROM unnest(missing) i), at, member_stats);
    RETURN (SELECT ARRAY[id] FROM tq_flows WHERE id = asked AND verdict IS NOT NULL);
END $$ LANGUAGE plpgsql :plans;

-- Drops confirmed flows that closed before this instant, members included; returns how many.
CREATE FUNCTION tq_purge_flows(before float8, most int) RETURNS int
AS $$
DECLARE
    gone text[] := ARRAY (
        SELECT id FROM tq_flows WHERE confirmed AND verdict IS NOT NULL AND closed_at < before
        ORDER BY closed_at LIMIT most FOR UPDATE SKIP LOCKED);
BEGIN
    DELETE FROM tq_members WHERE flow = ANY (gone);
    DELETE FROM tq_late WHERE flow = ANY (gone);
    DELETE FROM tq_flows WHERE id = ANY (gone);
    RETURN cardinality(gone);
END $$ LANGUAGE plpgsql :plans;
