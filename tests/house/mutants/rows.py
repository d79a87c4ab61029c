"""Rows of tasks and flows."""

from .mutant import memory, mutant, sqlite, story

__all__ = ["PROJECTIONS"]

PROJECTIONS = (
    mutant(
        "a row is executed after a failure",
        "tq/model/projection.py",
        ("is TaskStatus.CANCELLED else TaskStatus.FAILED", "is TaskStatus.CANCELLED else TaskStatus.EXECUTED"),
        by=story("flows_entity_tasks", "a_retry_stays_processing_and_the_last_failure_is_failed[memory]"),
    ),
    mutant(
        "a row goes backwards (memory)",
        "tq/memory/projections.py",
        ("if old is None or row.version > old.version:", "if old is None or row:"),
        by=memory("test_a_row_never_goes_backwards", "TestMemoryProjections"),
    ),
    mutant(
        "a row goes backwards (SQLite)",
        "adapters/tq_sqlite/projections.py",
        (' + " WHERE excluded.version > version"', ' + " WHERE 1"'),
        by=sqlite("test_a_row_never_goes_backwards", "TestSqliteProjections"),
    ),
    mutant(
        "of two endings the last one stands",
        "tq/memory/projections.py",
        ("row.version > old.version", "row.version >= old.version"),
        by=memory("test_the_first_of_equal_versions_stays", "TestMemoryProjections"),
    ),
    mutant(
        "what the provider of another server did not take is fed by nobody",
        "tq/app/parts.py",
        (
            "return composite if near is projections else OutboxBackend(composite), projections",
            "return composite, None",
        ),
        by=story("across_servers", "a_last_row_that_a_server_at_hand_did_not_take_comes_by_itself"),
    ),
)
