-- Version 1. Identifiers are text in the collation "C": compared byte by byte, in every database alike.
--
-- Custody is one table, so that a row tells everything about its message:
--
--     add ──▶ ready ──claim (token, until)──▶ leased ──remove──▶ gone
--               ▲                               │ └──hold──▶ held ──resolve──▶ gone
--               └── release, rearm, lease over ─┘
--
-- `ready` says that a row may be handed out once it is `due`: it is neither leased nor held, and of its lane the oldest.
-- `due` is `run_at`, or earlier where a cancel was asked for. `ended` counts the hand-outs that are over.

CREATE TABLE tq_messages (
    id text COLLATE "C" PRIMARY KEY,
    queue text COLLATE "C" NOT NULL,
    type text COLLATE "C" NOT NULL,
    run_at float8 NOT NULL,
    due float8 NOT NULL,
    seq bigint NOT NULL,
    until float8 NOT NULL DEFAULT 0,
    unknown_since float8 NOT NULL DEFAULT 0,
    cancelled_at float8 NOT NULL DEFAULT 0,
    fence bigint NOT NULL,
    ended bigint NOT NULL DEFAULT 0,
    generation int NOT NULL,
    attempt int NOT NULL,
    crashes int NOT NULL DEFAULT 0,
    solo_crashes int NOT NULL DEFAULT 0,
    solo boolean NOT NULL DEFAULT false,
    ready boolean NOT NULL,
    token text COLLATE "C" NOT NULL DEFAULT '',
    lane text COLLATE "C" NOT NULL,
    held text COLLATE "C" NOT NULL DEFAULT '',
    stats bytea NOT NULL,
    body bytea NOT NULL
) WITH (
    -- A claim rewrites the row: there is room for it on the same page.
    fillfactor = 70,
    -- Every task leaves dead rows and index entries behind, which claims must step over until they are swept.
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 200000,
    autovacuum_analyze_scale_factor = 0.2, autovacuum_analyze_threshold = 20000
);
-- By type, so that a type without a free slot is passed over at once, however many of it wait.
CREATE INDEX ON tq_messages (queue, type, due, seq) WHERE ready;
CREATE INDEX ON tq_messages (until) WHERE token <> '';
CREATE INDEX ON tq_messages (lane, seq) WHERE lane <> '';
CREATE INDEX ON tq_messages (token) WHERE cancelled_at > 0;
CREATE INDEX ON tq_messages (queue) WHERE held <> '';

-- Numbers the calls that add; within one, messages are numbered by their place.
CREATE SEQUENCE tq_order INCREMENT BY 1048576;

-- One row per lane that has messages: whoever adds to a lane, or lets its next one go, holds it.
CREATE TABLE tq_lanes (lane text COLLATE "C" PRIMARY KEY);

CREATE TABLE tq_paused (queue text COLLATE "C" PRIMARY KEY);

CREATE TABLE tq_workers (
    worker text COLLATE "C" NOT NULL,
    queue text COLLATE "C" NOT NULL,
    until float8 NOT NULL,
    PRIMARY KEY (worker, queue)
);

CREATE TABLE tq_records (
    task_id text COLLATE "C" PRIMARY KEY,
    queue text COLLATE "C" NOT NULL,
    type text COLLATE "C" NOT NULL,
    status text COLLATE "C" NOT NULL,
    at float8 NOT NULL,
    expires_at float8 NOT NULL,
    generation int NOT NULL,
    attempt int NOT NULL,
    fence bigint NOT NULL,
    dead boolean NOT NULL,
    result bytea,
    error text,
    stats bytea NOT NULL,
    body bytea
);
CREATE INDEX ON tq_records (expires_at);
CREATE INDEX ON tq_records (at, task_id) WHERE dead;
CREATE INDEX ON tq_records (at, task_id);

CREATE TABLE tq_outcomes (
    task_id text COLLATE "C" NOT NULL,
    generation int NOT NULL,
    attempt int NOT NULL,
    outcome bytea NOT NULL,
    carried boolean NOT NULL DEFAULT false,
    at float8 NOT NULL,
    PRIMARY KEY (task_id, generation, attempt)
);
CREATE INDEX ON tq_outcomes (at) WHERE carried;

CREATE TABLE tq_chunks (
    plan text COLLATE "C" NOT NULL,
    number int NOT NULL,
    at float8 NOT NULL,
    PRIMARY KEY (plan, number)
);
CREATE INDEX ON tq_chunks (at);

CREATE TABLE tq_chunk_messages (
    plan text COLLATE "C" NOT NULL,
    number int NOT NULL,
    place int NOT NULL,
    id text COLLATE "C" NOT NULL,
    queue text COLLATE "C" NOT NULL,
    type text COLLATE "C" NOT NULL,
    body bytea NOT NULL,
    run_at float8 NOT NULL,
    generation int NOT NULL,
    attempt int NOT NULL,
    lane text COLLATE "C" NOT NULL,
    stats bytea NOT NULL,
    fence bigint NOT NULL,
    PRIMARY KEY (plan, number, place)
);

CREATE TABLE tq_outgoing (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    body bytea NOT NULL,
    UNIQUE (topic, id)
);
CREATE INDEX ON tq_outgoing (topic, seq);

CREATE TABLE tq_flows (
    id text COLLATE "C" PRIMARY KEY,
    total int NOT NULL,
    allowed int NOT NULL,
    needed int NOT NULL,
    started_at float8 NOT NULL,
    generation int NOT NULL,
    deadline float8,
    cancel_siblings boolean NOT NULL,
    parent text COLLATE "C" NOT NULL,
    chunks int NOT NULL,
    plan text COLLATE "C" NOT NULL,
    meta bytea NOT NULL,
    join_id text COLLATE "C" NOT NULL,
    join_queue text COLLATE "C" NOT NULL,
    join_type text COLLATE "C" NOT NULL,
    join_body bytea NOT NULL,
    join_run_at float8 NOT NULL,
    join_generation int NOT NULL,
    join_attempt int NOT NULL,
    join_lane text COLLATE "C" NOT NULL,
    join_stats bytea NOT NULL,
    join_fence bigint NOT NULL,
    remaining int NOT NULL,
    succeeded int NOT NULL DEFAULT 0,
    failed int NOT NULL DEFAULT 0,
    verdict text COLLATE "C",
    reason text NOT NULL DEFAULT '',
    trigger_index int NOT NULL DEFAULT -1,
    closed_at float8,
    opened_at float8 NOT NULL,
    confirmed boolean NOT NULL DEFAULT false,
    spread int NOT NULL DEFAULT 0,
    tidied boolean NOT NULL DEFAULT false
) WITH (fillfactor = 50);  -- counting rewrites the row again and again: on its own page, without touching an index
CREATE INDEX ON tq_flows (started_at, id);
CREATE INDEX ON tq_flows (id) WHERE verdict IS NULL;
CREATE INDEX ON tq_flows (deadline) WHERE verdict IS NULL AND deadline IS NOT NULL;
CREATE INDEX ON tq_flows (closed_at) WHERE confirmed AND verdict IS NOT NULL;
-- Flows for which something is to be done at once; the query says it in the same words.
CREATE INDEX ON tq_flows (id) WHERE verdict IS NOT NULL AND NOT confirmed OR spread < chunks
    OR verdict IS NOT NULL AND NOT tidied AND (cancel_siblings OR verdict = 'cancelled');

-- `place` is the order in which members were recorded.
CREATE TABLE tq_members (
    flow text COLLATE "C" NOT NULL,
    idx int NOT NULL,
    place bigint NOT NULL,
    status text COLLATE "C" NOT NULL,
    result bytea,
    error text,
    PRIMARY KEY (flow, idx)
);

-- Successes that came after the verdict: they count when the flow is opened again.
CREATE TABLE tq_late (
    flow text COLLATE "C" NOT NULL,
    idx int NOT NULL,
    result bytea,
    PRIMARY KEY (flow, idx)
);

-- What anybody may SELECT from: one row per task or flow that names an entity.
--
-- task_id      the task, or flow, that the row is about; its key
-- entity_id    entity_type, task_type, queue_id: what it works on, and where
-- status       scheduled, processing, executed, failed, expired, ignored or cancelled
-- version      only ever grows: ms of created_at × 2048 + generation × 4 + 0 scheduled, 1 processing, 2 ended
-- created_at   seconds since 1970-01-01T00:00Z, as is updated_at: `to_timestamp(created_at)` makes it readable
-- payload      JSON, or NULL, as is result
-- error        text, or NULL
CREATE TABLE tq_projections (
    task_id text COLLATE "C" PRIMARY KEY,
    entity_id text COLLATE "C" NOT NULL,
    entity_type text COLLATE "C" NOT NULL,
    task_type text COLLATE "C" NOT NULL,
    queue_id text COLLATE "C" NOT NULL,
    status text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    created_at float8 NOT NULL,
    updated_at float8 NOT NULL,
    payload json,
    result json,
    error text
) WITH (fillfactor = 70);
CREATE INDEX ON tq_projections (entity_type, entity_id, updated_at);
CREATE INDEX ON tq_projections (updated_at, task_id);
