-- Leases: who holds a message, until when, and how a lease ends. A receipt is an id and the token of its claim; verbs
-- return the places of those that were lost.

-- Ends messages for good.
CREATE FUNCTION tq_remove(ids text[], tokens text[]) RETURNS bigint[]
AS $$
DECLARE
    hit bigint[];
    lanes text[];
BEGIN
    WITH gone AS (
        DELETE FROM tq_messages m USING unnest(ids, tokens) WITH ORDINALITY AS u (id, token, place)
        WHERE m.id = u.id AND m.token = u.token AND u.token <> ''
        RETURNING u.place, m.lane
    )
    SELECT array_agg(place), array_agg(lane) FILTER (WHERE lane <> '') INTO hit, lanes FROM gone;
    IF lanes IS NOT NULL THEN
        PERFORM tq_promote(lanes);
    END IF;
    RETURN tq_missed(cardinality(ids), hit);
END $$ LANGUAGE plpgsql :plans;

-- Gives back, to be tried again.
CREATE FUNCTION tq_rearm(
    ids text[], tokens text[], run_ats float8[], attempts int[], all_stats bytea[], unknown float8[]
) RETURNS bigint[]
AS $$
DECLARE
    hit bigint[];
BEGIN
    WITH back AS (
        UPDATE tq_messages m SET
            token = '', until = 0, solo = false, ended = m.ended + 1, ready = m.held = '', run_at = u.run_at,
            due = CASE WHEN m.cancelled_at > 0 THEN least(u.run_at, m.cancelled_at) ELSE u.run_at END,
            attempt = u.attempt, stats = u.stats, unknown_since = u.unknown
        FROM unnest(ids, tokens, run_ats, attempts, all_stats, unknown) WITH ORDINALITY
            AS u (id, token, run_at, attempt, stats, unknown, place)
        WHERE m.id = u.id AND m.token = u.token AND u.token <> ''
        RETURNING u.place
    )
    SELECT array_agg(place) INTO hit FROM back;
    RETURN tq_missed(cardinality(ids), hit);
END $$ LANGUAGE plpgsql :plans;

-- Keeps, not to be handed out before the flow's end.
CREATE FUNCTION tq_hold(ids text[], tokens text[], flows text[]) RETURNS bigint[]
AS $$
DECLARE
    hit bigint[];
BEGIN
    WITH kept AS (
        UPDATE tq_messages m SET token = '', until = 0, solo = false, ended = m.ended + 1, held = u.flow
        FROM unnest(ids, tokens, flows) WITH ORDINALITY AS u (id, token, flow, place)
        WHERE m.id = u.id AND m.token = u.token AND u.token <> ''
        RETURNING u.place
    )
    SELECT array_agg(place) INTO hit FROM kept;
    RETURN tq_missed(cardinality(ids), hit);
END $$ LANGUAGE plpgsql :plans;

-- Gives back, uncounted, due as they were.
CREATE FUNCTION tq_release(ids text[], tokens text[]) RETURNS void
AS $$
BEGIN
    UPDATE tq_messages m SET token = '', until = 0, solo = false, ended = m.ended + 1, ready = m.held = ''
    FROM unnest(ids, tokens) AS u (id, token) WHERE m.id = u.id AND m.token = u.token AND u.token <> '';
    PERFORM tq_wake();
END $$ LANGUAGE plpgsql :plans;

-- Notes that these run alone.
CREATE FUNCTION tq_solo(ids text[], tokens text[]) RETURNS bigint[]
AS $$
DECLARE
    hit bigint[];
BEGIN
    WITH alone AS (
        UPDATE tq_messages m SET solo = true FROM unnest(ids, tokens) WITH ORDINALITY AS u (id, token, place)
        WHERE m.id = u.id AND m.token = u.token AND u.token <> ''
        RETURNING u.place
    )
    SELECT array_agg(place) INTO hit FROM alone;
    RETURN tq_missed(cardinality(ids), hit);
END $$ LANGUAGE plpgsql :plans;

-- Lets leases run on from now; tells which were lost, and of the others whose cancel was asked for.
CREATE FUNCTION tq_renew(ids text[], tokens text[], lease float8, OUT lost bigint[], OUT cancelled bigint[])
AS $$
DECLARE
    hit bigint[];
BEGIN
    WITH renewed AS (
        UPDATE tq_messages m SET until = tq_now() + lease FROM unnest(ids, tokens) WITH ORDINALITY AS u (id, token, place)
        WHERE m.id = u.id AND m.token = u.token AND u.token <> ''
        RETURNING u.place, m.cancelled_at
    )
    SELECT array_agg(place), array_agg(place) FILTER (WHERE cancelled_at > 0) INTO hit, cancelled FROM renewed;
    lost := tq_missed(cardinality(ids), hit);
END $$ LANGUAGE plpgsql :plans;

-- Puts a lease under another token, to run on from now; false where it was lost.
CREATE FUNCTION tq_move(asked text, old text, new text, lease float8) RETURNS boolean
AS $$
BEGIN
    UPDATE tq_messages SET token = new, until = tq_now() + lease WHERE id = asked AND token IN (old, new) AND old <> '';
    RETURN FOUND;
END $$ LANGUAGE plpgsql :plans;
