-- How workers share the shards of streams. Rows are locked in one order, so that two calls never wait for each other.

CREATE FUNCTION tq_create_shards(
    streams text[], shards text[], all_parents text[], owners text[], counters bigint[], checkpoints text[],
    notes text[]
) RETURNS void
AS $$
BEGIN
    INSERT INTO tq_shards
    SELECT * FROM unnest(streams, shards, all_parents, owners, counters, checkpoints, notes) ORDER BY 1, 2
    ON CONFLICT DO NOTHING;
END $$ LANGUAGE plpgsql :plans;

-- Changes each row that is still as it was seen, counter and all; returns the places of those that are as wanted now.
CREATE FUNCTION tq_swap_shards(
    seen_owners text[], seen_counters bigint[],
    streams text[], shards text[], all_parents text[], owners text[], counters bigint[], checkpoints text[],
    notes text[]
) RETURNS bigint[]
AS $$
BEGIN
    PERFORM FROM tq_shards s JOIN unnest(streams, shards) AS u (stream, shard) USING (stream, shard)
    ORDER BY s.stream, s.shard FOR UPDATE OF s;
    UPDATE tq_shards s
    SET parents = u.parents, owner = u.owner, counter = u.counter, checkpoint = u.checkpoint, note = u.note
    FROM unnest(seen_owners, seen_counters, streams, shards, all_parents, owners, counters, checkpoints, notes)
        AS u (seen_owner, seen_counter, stream, shard, parents, owner, counter, checkpoint, note)
    WHERE s.stream = u.stream AND s.shard = u.shard AND s.owner = u.seen_owner AND s.counter = u.seen_counter;
    RETURN array_agg(u.place)
    FROM unnest(streams, shards, all_parents, owners, counters, checkpoints, notes) WITH ORDINALITY
        AS u (stream, shard, parents, owner, counter, checkpoint, note, place)
    JOIN tq_shards s USING (stream, shard, parents, owner, counter, checkpoint, note);
END $$ LANGUAGE plpgsql :plans;

CREATE FUNCTION tq_drop_shards(streams text[], shards text[], owners text[], counters bigint[]) RETURNS void
AS $$
BEGIN
    DELETE FROM tq_shards s USING unnest(streams, shards, owners, counters) AS u (stream, shard, owner, counter)
    WHERE s.stream = u.stream AND s.shard = u.shard AND s.owner = u.owner AND s.counter = u.counter;
END $$ LANGUAGE plpgsql :plans;
