"""What a join is told, inline and streamed."""

from dataclasses import replace
from typing import Any, cast

import pytest

from tests.unit.flow.doubles import NOW, Barrier, request_of
from tests.unit.flow.test_plan import task_in
from tq.errors import InvalidInputError, MissingPortError, UnknownFlowError
from tq.flow import FlowMiddleware, StepEntry, plan_flow, stream_results
from tq.model import FlowRequest, Mark, StepStatus, Task, Verdict

OK, FAIL, CANCELLED, OPEN = StepStatus.SUCCESS, StepStatus.FAIL, StepStatus.CANCELLED, StepStatus.OPEN


class Case:
    """A flow at a barrier, its join, and what the join is told."""

    def __init__(self, request: FlowRequest) -> None:
        self.barrier = Barrier()
        (self.flow,) = plan_flow(request, now=NOW, origin=None, parent=None).flows
        self.barrier.open(self.flow)
        self.join = task_in(self.flow.join)

    def mark(self, *marks: tuple[int, StepStatus, bytes | None, str | None]) -> "Case":
        self.barrier.mark(*[Mark("f", index, status, 0, result, error) for index, status, result, error in marks])
        return self

    async def attached(self) -> dict[str, Any]:
        payload = await FlowMiddleware(self.barrier.port).attach(self.join)
        told = cast("dict[str, dict[str, Any]]", payload)
        assert list(told) == ["flow_results"]
        return told["flow_results"]

    async def streamed(self, payload: object = None) -> list[StepEntry]:
        task = self.join if payload is None else replace(self.join, payload=payload)
        return [step async for step in stream_results(self.barrier.port, task)]


def mixed() -> Case:
    return Case(request_of(3)).mark((2, OK, b'{"n":2}', None), (0, OK, None, None), (1, FAIL, None, "boom"))


@pytest.mark.spec("FLOW-13", "FLOW-18", "FLOW-19", "FLOW-15")
async def test_a_join_is_told_every_result_in_the_order_of_the_steps() -> None:
    assert await mixed().attached() == {
        "flow_id": "f",
        "generation": 0,
        "total": 3,
        "verdict": "completed",
        "steps": [
            {"step_index": 0, "status": "success"},
            {"step_index": 1, "status": "fail", "error": "boom"},
            {"step_index": 2, "status": "success", "result": {"n": 2}},
        ],
    }


async def test_a_result_of_none_is_not_the_same_as_no_result() -> None:
    told = await Case(request_of(2)).mark((0, OK, b"null", None), (1, OK, None, None)).attached()
    assert told["steps"] == [
        {"step_index": 0, "status": "success", "result": None},
        {"step_index": 1, "status": "success"},
    ]


@pytest.mark.spec("FLOW-22", "D-42", "INV-06")
async def test_the_step_that_aborts_is_in_the_results_and_the_rest_are_open() -> None:
    case = Case(request_of(4, policy="abort")).mark((1, OK, None, None), (2, FAIL, None, "boom"))
    told = await case.attached()
    assert told["aborted"] is True
    assert not {"timed_out", "cancelled"} & set(told)
    assert [step["status"] for step in told["steps"]] == ["open", "success", "fail", "open"]


async def test_siblings_that_the_verdict_cancels_are_told_as_cancelled() -> None:
    case = Case(request_of(3, policy="abort", cancel_siblings=True)).mark((0, FAIL, None, "boom"))
    assert [step["status"] for step in (await case.attached())["steps"]] == ["fail", "cancelled", "cancelled"]


@pytest.mark.spec("FLOW-24")
@pytest.mark.parametrize(
    ("verdict", "flag", "rest"),
    [(Verdict.TIMED_OUT, "timed_out", "open"), (Verdict.CANCELLED, "cancelled", "cancelled")],
)
async def test_a_deadline_and_a_cancel_join_with_what_there_is(verdict: Verdict, flag: str, rest: str) -> None:
    case = Case(request_of(2)).mark((1, OK, b"1", None))
    case.barrier.close("f", verdict, "enough")
    told = await case.attached()
    assert (told[flag], told["reason"], told["verdict"]) == (True, "enough", verdict)
    assert [step["status"] for step in told["steps"]] == [rest, "success"]


@pytest.mark.spec("FLOW-24")
async def test_a_deadline_joins_also_when_no_step_has_ended() -> None:
    case = Case(request_of(2))
    case.barrier.close("f", Verdict.TIMED_OUT)
    assert [step["status"] for step in (await case.attached())["steps"]] == ["open", "open"]


async def test_an_empty_flow_joins_with_no_entries() -> None:
    told = await Case(request_of(0)).attached()
    assert (told["total"], told["steps"], told["verdict"]) == (0, [], "completed")


def large(size: int, count: int = 4) -> Case:
    result = b'"%b"' % (b"x" * (size // count - 2))
    return Case(request_of(count + 1)).mark(*[(index, OK, result, None) for index in range(count)])


@pytest.mark.spec("D-53")
async def test_results_are_inline_up_to_a_quarter_of_a_mebibyte_in_sum() -> None:
    told = await large(262_144).attached()
    assert len(told["steps"]) == 5
    assert "manifest" not in told


@pytest.mark.spec("D-53")
async def test_more_results_than_that_are_a_manifest_with_counts() -> None:
    case = large(262_144 + 100)
    case.barrier.close("f", Verdict.TIMED_OUT)
    told = await case.attached()
    assert told["manifest"] is True
    assert "steps" not in told
    assert told["counts"] == {"success": 4, "fail": 0, "open": 1}
    assert told["timed_out"] is True


@pytest.mark.spec("D-53")
async def test_errors_count_like_results() -> None:
    case = Case(request_of(2)).mark((0, FAIL, None, "x" * 200_000), (1, FAIL, None, "x" * 200_000))
    assert (await case.attached())["manifest"] is True


async def test_very_many_entries_are_a_manifest_however_small_they_are() -> None:
    case = Case(request_of(10_001)).mark(*[(index, OK, None, None) for index in range(10_001)])
    told = await case.attached()
    assert told["manifest"] is True
    assert told["counts"]["success"] == 10_001
    assert not [call for call in case.barrier.calls if call.startswith("get_step_results")], "nothing is read for it"


async def test_streaming_serves_inline_results_and_manifests_alike() -> None:
    case = mixed()
    expected = [StepEntry(0, OK), StepEntry(1, FAIL, None, "boom"), StepEntry(2, OK, {"n": 2})]
    assert await case.streamed() == expected
    case.barrier.calls.clear()
    assert await case.streamed({"flow_results": await case.attached()}) == expected
    assert case.barrier.calls == ["get_step_results f"], "only attaching has read"
    big = large(300_000)
    streamed = await big.streamed({"flow_results": await big.attached()})
    assert [step.status for step in streamed] == [OK] * 4 + [OPEN]
    assert len(streamed[0].result) == 300_000 // 4 - 2


@pytest.mark.spec("BAR-05")
async def test_streaming_pages_through_a_large_flow_and_leaves_nobody_out() -> None:
    total = 5000
    ended = [index for index in range(total) if index % 3 or index < 1000]
    case = Case(request_of(total)).mark(*[(index, OK, b"%d" % index, None) for index in ended])
    steps = await case.streamed()
    assert [step.step_index for step in steps] == list(range(total))
    assert [step.result for step in steps if step.status is OK] == ended
    assert len(case.barrier.calls) < 10


async def test_pages_stay_small_where_results_are_large() -> None:
    case = Case(request_of(300)).mark(*[(index, OK, b'"%b"' % (b"x" * 250_000), None) for index in range(300)])
    assert len(await case.streamed()) == 300
    assert len(case.barrier.calls) > 8, "one page would hold 75 MB"


async def test_only_a_join_has_results_to_stream() -> None:
    case = mixed()
    case.join = Task[Any](type="t", id="t-1")
    with pytest.raises(InvalidInputError, match="join"):
        await case.streamed()


async def test_a_task_that_is_no_join_keeps_its_payload() -> None:
    task = Task[Any](type="t", id="t-1", payload={"a": 1})
    assert await FlowMiddleware(None).attach(task) == {"a": 1}


async def test_a_flow_that_was_forgotten_says_so() -> None:
    case = mixed()
    case.barrier.states.clear()
    with pytest.raises(UnknownFlowError, match="remember"):
        await case.attached()


@pytest.mark.spec("D-49")
async def test_a_join_without_a_barrier_is_refused_by_the_name_of_what_is_missing() -> None:
    with pytest.raises(MissingPortError, match="barrier="):
        await FlowMiddleware(None).attach(mixed().join)
