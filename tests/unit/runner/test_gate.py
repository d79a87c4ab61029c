"""What is decided about a delivery before anything runs, and in which order."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tq import Actions, Task, TaskQueuesManager
from tq.clock import to_datetime
from tq.codec import decode_body
from tq.model import Delivery, Failed, Released, TaskStatus
from tq.runner.execution import Execution
from tq.runner.gate import inspect, policy_of, stand_in
from tq.testing import VirtualClock
from tq.testing.harness import harness

from .making import NOW, delivery, execution, message, registration


def look(of: Delivery, now: float = NOW, **options: Any) -> Execution:
    executors = TaskQueuesManager()

    @executors.executor("work", **options)
    async def work(task: Task[Any], actions: Actions) -> None: ...

    return inspect(of, executors, now, 3600, "memory:default")


def ending(of: Delivery, now: float = NOW, **options: Any) -> tuple[TaskStatus, str]:
    outcome = look(of, now, **options).unrun
    assert isinstance(outcome, Failed)
    assert outcome.final
    return outcome.status, outcome.error


def test_what_is_known_and_due_is_run() -> None:
    admitted = look(delivery(message(payload=b'{"n":1}')))
    assert (admitted.unrun, admitted.alone) == (None, False)
    assert admitted.registration is not None
    assert admitted.body["payload"] == b'{"n":1}'
    assert (admitted.id, admitted.consumer_id) == ("t-1", "memory:default")


@pytest.mark.spec("D-35", "MEM-03")
@pytest.mark.parametrize(("late", "expired"), [(-0.001, False), (0, True), (60, True)])
def test_at_its_expiry_a_task_has_expired(*, late: float, expired: bool) -> None:
    of = delivery(message(expires_at=to_datetime(NOW)))
    if expired:
        assert ending(of, NOW + late)[0] is TaskStatus.EXPIRED
    else:
        assert look(of, NOW + late).unrun is None


@pytest.mark.parametrize(("crashes", "alone"), [(0, False), (1, False), (2, True), (7, True)])
def test_from_its_second_crash_on_a_delivery_runs_alone(*, crashes: int, alone: bool) -> None:
    admitted = look(delivery(crashes=crashes))
    assert (admitted.unrun, admitted.alone) == (None, alone)


def test_who_crashed_alone_too_often_is_convicted() -> None:
    assert look(delivery(crashes=9, solo_crashes=2)).unrun is None
    status, error = ending(delivery(crashes=5, solo_crashes=3))
    assert (status, error) == (TaskStatus.FAILED, "the worker died 5 times with this task, 3 alone")
    assert ending(delivery(crashes=1), max_crashes=0)[0] is TaskStatus.FAILED


def test_bytes_that_are_no_task_end_at_once_under_their_own_name() -> None:
    of = delivery(message()._replace(body=b"hello", type=""))
    assert "not JSON" in ending(of)[1]
    body = look(of).body
    assert (body["id"], body["type"], body["queue"]) == ("t-1", "unreadable", "default")
    assert stand_in(of) == body


async def test_what_cannot_even_be_looked_at_ends_unrun(monkeypatch: pytest.MonkeyPatch, clock: VirtualClock) -> None:
    """One delivery must not bring down the worker with all the others."""
    executors, ran = TaskQueuesManager(), list[int]()

    @executors.task("work")
    async def work(number: int) -> None:
        ran.append(number)

    def stumbles(data: bytes) -> Any:
        if data.endswith(b"\n13"):
            raise TypeError("nobody thought of this")
        return decode_body(data)

    monkeypatch.setattr("tq.runner.gate.decode_body", stumbles)
    async with harness(executors, clock=clock) as h:
        ids = await h.run(work.task(1), work.task(13), work.task(2))
        await h.assert_failed(ids[1], "nobody thought of this")
    assert ran == [1, 2]


def test_an_unknown_format_waits_like_an_unknown_type() -> None:
    newer = delivery(message()._replace(body=b'{"v":2,"type":"work","queue":"default"}\nnull'))
    assert isinstance(look(newer).unrun, Released)
    assert ending(newer._replace(unknown_since=NOW - 3600))[0] is TaskStatus.IGNORED


def test_the_order_of_the_questions() -> None:
    """Unreadable, cancelled, expired, unknown, convicted, suspect (RFC 006)."""
    past = to_datetime(NOW) - timedelta(seconds=1)
    everything = delivery(
        message(type="nobody", expires_at=past), cancelled=True, crashes=9, solo_crashes=9, unknown_since=NOW - 9_999
    )
    unreadable = everything._replace(message=everything.message._replace(body=b"{}"))
    assert "is not a task" in ending(unreadable)[1]
    assert ending(everything)[0] is TaskStatus.CANCELLED
    assert ending(everything._replace(cancelled=False))[0] is TaskStatus.EXPIRED
    unknown = everything._replace(cancelled=False, message=message(type="nobody"))
    assert ending(unknown)[0] is TaskStatus.IGNORED
    assert "died" in ending(unknown._replace(message=message()))[1]


@pytest.mark.spec("RET-05", "D-16")
def test_the_policy_is_the_executors_where_the_task_says_nothing() -> None:
    by = registration(retries=4, store_on_success=True)
    plain = policy_of(execution(delivery(message()), by))
    assert (plain.retries, plain.task_retries, plain.retry_after, plain.keep.on_success) == (4, None, None, True)
    own = policy_of(execution(delivery(message(retries=0, retry_after=timedelta(minutes=1))), by))
    assert (own.retries, own.task_retries, own.retry_after) == (4, 0, 60)


def test_a_task_nobody_knows_is_not_retried_here() -> None:
    unknown = look(delivery(message(type="nobody", retries=5)))
    assert policy_of(unknown).task_retries == 0
