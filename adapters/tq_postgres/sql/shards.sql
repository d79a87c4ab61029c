-- Leases on the shards of streams: rows that workers agree by. `counter` rises with every change, and fences.
CREATE TABLE tq_shards (
    stream text COLLATE "C" NOT NULL,
    shard text COLLATE "C" NOT NULL,
    parents text COLLATE "C" NOT NULL,
    owner text COLLATE "C" NOT NULL,
    counter bigint NOT NULL,
    checkpoint text COLLATE "C" NOT NULL,
    note text COLLATE "C" NOT NULL,
    PRIMARY KEY (stream, shard)
);
