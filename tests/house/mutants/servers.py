"""The same faults in what runs on a server: scripts of Redis, functions of PostgreSQL, documents of MongoDB."""

from .mutant import Mutant, mutant

__all__ = ["SERVERS"]


def redis(test: str, suite: str = "TestRedisBackend") -> str:
    return f"tests/contracts/test_redis.py::{suite}::test_{test}"


def postgres(test: str, suite: str = "TestPostgresBackend") -> str:
    return f"tests/contracts/test_postgres.py::{suite}::test_{test}"


def mongo(test: str, suite: str = "TestMongoBackend") -> str:
    return f"tests/contracts/test_mongo.py::{suite}::test_{test}"


MONGO_DEATHS = (
    "tests/adapters/test_mongo_deaths.py::test_an_ending_counts_whole_or_not_at_all_wherever_its_process_dies"
)

REDIS = (
    mutant(
        "effects of a lost lease are written (Redis)",
        "adapters/tq_redis/lua/commit.lua",
        ("if packed ~= '' and not read.lost[receipt(ids[i], token)] then", "if packed ~= '' then"),
        by=redis("a_settlement_that_lost_its_lease_has_no_effect_whatever"),
    ),
    mutant(
        "a counter instead of a set (Redis)",
        "adapters/tq_redis/lua/marks.lua",
        (
            "if not marks.record(flow, mark.index, mark.ended) then\n    return false\n  end",
            "marks.record(flow, mark.index, mark.ended)",
        ),
        by=redis("another_value_for_a_member_does_not_complete_for_a_missing_one", "TestRedisBarrier"),
    ),
    mutant(
        "a closed flow goes on counting (Redis)",
        "adapters/tq_redis/lua/marks.lua",
        ("if flow.verdict ~= '' then\n    if succeeded", "if flow.verdict == '?' then\n    if succeeded"),
        by=redis("a_closed_flow_records_nothing", "TestRedisBarrier"),
    ),
)

POSTGRES = (
    mutant(
        "an outcome without its lease is written (PostgreSQL)",
        "adapters/tq_postgres/sql/leases.sql",
        (
            "WHERE m.id = u.id AND m.token = u.token AND u.token <> ''\n        RETURNING u.place, m.lane",
            "WHERE m.id = u.id\n        RETURNING u.place, m.lane",
        ),
        by=postgres("a_settlement_that_lost_its_lease_has_no_effect_whatever"),
    ),
    mutant(
        "a crash counts as a retry (PostgreSQL)",
        "adapters/tq_postgres/sql/claims.sql",
        ("crashes = m.crashes + 1,", "crashes = m.crashes + 1, attempt = m.attempt + 1,"),
        by=postgres("a_retry_is_no_crash_and_a_crash_no_retry", "TestPostgresQueue"),
    ),
    mutant(
        "a closed flow goes on counting (PostgreSQL)",
        "adapters/tq_postgres/sql/flows.sql",
        ("WHERE f.verdict IS NULL AND u.idx BETWEEN", "WHERE u.idx BETWEEN"),
        by=postgres("a_closed_flow_records_nothing", "TestPostgresBarrier"),
    ),
    mutant(
        "a deadline is closed over a closed flow (PostgreSQL)",
        "adapters/tq_postgres/sql/flows.sql",
        ("u WHERE f.id = u.flow AND f.verdict IS NULL\n", "u WHERE f.id = u.flow\n"),
        by=postgres("a_closed_flow_is_not_aborted", "TestPostgresBarrier"),
    ),
)

MONGO = (
    mutant(
        "what an ending brings runs before everything is written (MongoDB)",
        "adapters/tq_mongo/carry.py",
        (
            'new_task(message, seq=seq, place=Place.QUEUE, state="unborn") | {"born": entry.key}',
            "new_task(message, seq=seq, place=Place.QUEUE)",
        ),
        by=MONGO_DEATHS,
    ),
    mutant(
        "nobody carries out what a dead worker had decided (MongoDB)",
        "adapters/tq_mongo/claims.py",
        ("                await self._mend(ending)", "                pass"),
        by=MONGO_DEATHS,
    ),
    mutant(
        "a closed flow goes on counting (MongoDB)",
        "adapters/tq_mongo/flows.py",
        ("        if not was_open:", "        if False and not was_open:"),
        by=mongo("a_closed_flow_records_nothing", "TestMongoBarrier"),
    ),
)

SERVERS: tuple[Mutant, ...] = (*REDIS, *POSTGRES, *MONGO)
