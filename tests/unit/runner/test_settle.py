"""What an outcome brings: pure arithmetic over values."""

from __future__ import annotations

from typing import Any

import pytest

from tq.codec import decode_body, dumps, loads, task_of
from tq.model import (
    NO_EFFECTS,
    SUCCEEDED,
    Backoff,
    Deferred,
    Effects,
    Ended,
    Failed,
    Hold,
    Keep,
    Message,
    Outcome,
    Place,
    Rearm,
    Receipt,
    Record,
    Released,
    Remove,
    Rescheduled,
    Succeeded,
    Task,
    TaskStatus,
)
from tq.ports import Continuation
from tq.runner.settle import Policy, Said, convicted, done, settle, unknown

from .making import NOW, delivery, message

EVEN = Backoff(jitter=0)


def stats(settlement: Any) -> dict[str, Any]:
    [record] = settlement.effects.records
    found: dict[str, Any] = loads(record.stats)
    return found


@pytest.mark.spec("RES-01")
def test_a_success_removes_and_is_recorded_as_the_options_say() -> None:
    plain = settle(delivery(), Succeeded(b"1"), Policy(), NOW)
    assert (plain.ending, plain.effects) == (Remove(), NO_EFFECTS)
    kept = settle(delivery(), Succeeded(b"1"), Policy(keep=Keep(result_ttl=60)), NOW)
    [record] = kept.effects.records
    assert (record.status, record.result, record.expires_at) == (TaskStatus.EXECUTED, b"1", NOW + 60)
    assert settle(delivery(), Succeeded(), Policy(keep=Keep(result_ttl=60)), NOW).effects is NO_EFFECTS
    noted = settle(delivery(), Succeeded(), Policy(keep=Keep(on_success=True)), NOW)
    assert noted.effects.records[0].result is None


@pytest.mark.spec("RES-05")
def test_a_dropped_result_leaves_a_mark_where_a_result_was_to_be_kept() -> None:
    settled = settle(delivery(), Succeeded(None, dropped="too large"), Policy(keep=Keep(result_ttl=60)), NOW)
    assert stats(settled) == {"result_dropped": "too large"}
    assert settle(delivery(), Succeeded(None, dropped="too large"), Policy(), NOW).effects is NO_EFFECTS


@pytest.mark.spec("RET-01", "RET-04", "RET-05", "RET-06", "RET-10")
@pytest.mark.parametrize(
    ("attempt", "task_retries", "retries", "again"),
    [(0, None, 0, False), (0, None, 1, True), (1, None, 1, False), (0, 0, 5, False), (2, 3, 0, True), (3, 3, 9, False)],
)
def test_a_failure_is_retried_while_retries_are_left(
    *, attempt: int, task_retries: int | None, retries: int, again: bool
) -> None:
    policy = Policy(retries=retries, task_retries=task_retries, retry_after=10.0, backoff=EVEN)
    settled = settle(delivery(message(attempt=attempt)), Failed("no"), policy, NOW)
    if again:
        expected = dumps({"last_error": "no", "retry_count": attempt + 1})
        assert settled.ending == Rearm(NOW + 10 * (attempt + 1) ** 2, attempt + 1, expected)
        assert settled.effects is NO_EFFECTS
    else:
        assert settled.ending == Remove()
        assert stats(settled) == {"last_error": "no", "retry_count": attempt, "failed_at": NOW}
        [record] = settled.effects.records
        assert (record.dead, record.body) == (True, settled.message and settled.message.body)


def test_noise_spreads_retries_within_the_jitter() -> None:
    policy = Policy(retries=1, retry_after=10.0, backoff=Backoff(jitter=0.1))
    for noise, delay in ((-1.0, 9), (0.0, 10), (1.0, 11)):
        ending = settle(delivery(), Failed("no"), policy, NOW, noise=noise).ending
        assert isinstance(ending, Rearm)
        assert ending.run_at - NOW == pytest.approx(delay)


def test_a_final_failure_is_not_retried() -> None:
    assert settle(delivery(), Failed("never", final=True), Policy(retries=9), NOW).ending == Remove()


@pytest.mark.spec("RES-03", "D-60", "STO-06", "MOD-05")
def test_what_a_failure_says_is_merged_into_the_stats_and_reserved_keys_stay() -> None:
    before = dumps({"imported": 1, "last_error": "old", "retry_count": 1})
    failed = Failed(
        "new", stack="Traceback", meta={"row": 7, "retry_count": 99, "failed_at": 0, "last_error": "forged"}
    )
    settled = settle(delivery(message(attempt=1)._replace(stats=before)), failed, Policy(), NOW)
    assert stats(settled) == {
        "imported": 1,
        "row": 7,
        "last_error": "new",
        "last_error_stack": "Traceback",
        "retry_count": 1,
        "failed_at": NOW,
    }


@pytest.mark.spec("RES-03", "D-60", "MOD-05")
def test_what_tq_did_not_write_itself_is_not_there_under_its_name() -> None:
    forged = {"last_error_stack": "x", "result_dropped": "x", "failed_at": 0, "ignored_reason": "x", "retry_count": 9}
    retried = settle(delivery(), Failed("no", meta=forged), Policy(retries=1), NOW).ending
    assert isinstance(retried, Rearm)
    assert loads(retried.stats) == {"last_error": "no", "retry_count": 1}
    assert stats(settle(delivery(), Failed("", meta=forged), Policy(), NOW)) == {"retry_count": 0, "failed_at": NOW}


@pytest.mark.spec("RES-04")
def test_a_failure_without_words_leaves_the_last_error_alone() -> None:
    before = dumps({"last_error": "old"})
    assert stats(settle(delivery(message()._replace(stats=before)), Failed(""), Policy(), NOW))["last_error"] == "old"


def test_a_failure_that_is_not_to_be_kept_is_kept_for_members_and_joins() -> None:
    """A redrive needs their bodies; and who waits for a flow is told by its join's record how it ended."""
    policy = Policy(keep=Keep(on_failure=False))
    assert settle(delivery(), Failed("no"), policy, NOW).effects is NO_EFFECTS
    member = message(metadata={"flow_meta": {"flow_id": "f", "step_index": 0, "total_steps": 1}})
    settled = settle(delivery(member), Failed("no"), policy, NOW, task=task_of(decode_body(member.body)))
    assert len(settled.effects.records) == 1
    join = message(metadata={"flow_meta": {"flow_id": "f", "is_join": True}})
    settled = settle(delivery(join), Failed("no"), policy, NOW, task=task_of(decode_body(join.body)))
    assert len(settled.effects.records) == 1


@pytest.mark.spec("D-15")
@pytest.mark.parametrize(
    ("outcome", "run_at", "since"),
    [
        (Rescheduled(5.0), NOW + 5, 0.0),
        (Rescheduled(0.0), NOW, 0.0),
        (Released(), NOW - 7, 0.0),
        (Released(delay=3.0), NOW + 3, 0.0),
        (Released(delay=1.0, unknown=True), NOW + 1, NOW),
    ],
)
def test_what_is_no_failure_keeps_attempt_and_stats(outcome: Outcome, run_at: float, since: float) -> None:
    before = message(attempt=2)._replace(stats=b'{"x":1}', run_at=NOW - 7)
    settled = settle(delivery(before), outcome, Policy(), NOW)
    assert settled.ending == Rearm(run_at, 2, b'{"x":1}', since)
    assert settled.effects is NO_EFFECTS


def test_what_is_given_back_for_a_while_waits_by_the_clock_of_whoever_handed_it_out() -> None:
    """It was due there in what is the future here: a moment from now it would be due at once, and so for ever."""
    ahead = message()._replace(run_at=NOW + 5)
    assert settle(delivery(ahead), Released(delay=1.0), Policy(), NOW).ending == Rearm(NOW + 6, 0, b"", 0.0)


def test_a_task_unknown_for_longer_remembers_since_when() -> None:
    settled = settle(delivery(unknown_since=NOW - 50), Released(delay=1.0, unknown=True), Policy(), NOW)
    assert settled.ending == Rearm(NOW + 1, 0, b"", NOW - 50)


def test_a_deferred_task_is_held_by_its_flow() -> None:
    settled = settle(delivery(), Deferred("f-1"), Policy(keep=Keep(on_success=True)), NOW)
    assert (settled.ending, settled.effects) == (Hold("f-1"), NO_EFFECTS)


class Following(Continuation):
    """Notes what it is asked, and brings a record."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ended: list[Ended] = []
        self.children: list[str] = []

    def begin(self, task: Task[Any], now: float) -> Effects:
        return NO_EFFECTS

    def follow(self, ended: Ended) -> Effects:
        self.ended.append(ended)
        return Effects(records=(Record(self.name, "q", "t", TaskStatus.EXECUTED, NOW, NOW),))

    def added(self, messages: Any, now: float) -> Effects:
        self.children += [child.id for child in messages]
        return NO_EFFECTS


@pytest.mark.spec("RET-14", "RET-17")
def test_records_come_first_then_children_then_what_continuations_bring() -> None:
    one, two = Following("one"), Following("two")
    child: Message = message("child")
    owner = message(metadata={"log_context": {"a": "b"}})
    task = task_of(decode_body(owner.body))
    settled = settle(
        delivery(owner), Failed("no"), Policy(), NOW, task=task, said=Said([child]), continuations=[one, two]
    )
    assert [record.task_id for record in settled.effects.records] == ["t-1", "one", "two"]
    assert settled.effects.messages == (child,)
    assert (one.children, two.children) == (["child"], ["child"])
    [ended] = one.ended
    assert (ended.task, ended.final, ended.now, ended.body) == (task, True, NOW, owner.body)


@pytest.mark.spec("RET-10")
def test_continuations_are_told_whether_this_is_the_end() -> None:
    following = Following("x")
    task = task_of(decode_body(message().body))
    outcomes: list[tuple[Outcome, bool]] = [
        (Failed("no"), False),
        (Rescheduled(1), False),
        (Released(), False),
        (Succeeded(), True),
    ]
    for outcome, final in outcomes:
        settle(delivery(), outcome, Policy(retries=1), NOW, task=task, continuations=[following])
        assert following.ended[-1].final is final
    settle(delivery(), Succeeded(), Policy(), NOW, continuations=[following])
    assert len(following.ended) == 4, "where nobody else is concerned nobody is asked"


@pytest.mark.parametrize(
    ("crashes", "alone", "most", "expected"),
    [(0, 0, 3, False), (2, 2, 3, False), (3, 3, 3, True), (9, 2, 3, False), (0, 0, 0, False), (1, 0, 0, True)],
)
def test_only_crashes_alone_convict(*, crashes: int, alone: int, most: int, expected: bool) -> None:
    assert convicted(delivery(crashes=crashes, solo_crashes=alone), most) is expected


@pytest.mark.spec("EXE-08")
@pytest.mark.parametrize(("waited", "delay"), [(0, 1), (0.5, 1), (1, 1), (2, 2), (40, 40), (61, 60), (3599, 60)])
def test_what_is_not_known_is_given_back_for_as_long_as_it_has_waited(waited: float, delay: float) -> None:
    since = NOW - waited if waited else 0.0
    given_back = unknown(delivery(unknown_since=since), "who is that", NOW, 3600)
    assert given_back == Released(delay=delay, unknown=True, reason="who is that")


@pytest.mark.spec("EXE-08", "STO-08")
def test_after_the_grace_it_is_ignored_and_its_record_says_why() -> None:
    failed = unknown(delivery(unknown_since=NOW - 3600), "who is that", NOW, 3600)
    assert isinstance(failed, Failed)
    assert (failed.status, failed.final, failed.error) == (
        TaskStatus.IGNORED,
        True,
        "who is that; no worker knew it for 3600 s",
    )
    settled = settle(delivery(), failed, Policy(), NOW)
    assert settled.effects.records[0].status is TaskStatus.IGNORED
    assert stats(settled)["ignored_reason"] == "unknown_executor"
    assert (stats(settled)["error"], stats(settled)["ignored_at"]) == (failed.error, NOW)


@pytest.mark.parametrize("keep", [Keep(), Keep(result_ttl=60.0), Keep(on_success=True)])
@pytest.mark.parametrize("outcome", [SUCCEEDED, Succeeded(b"5")])
def test_a_success_that_concerns_nobody_is_settled_without_being_asked_as_it_would_be(
    outcome: Succeeded, keep: Keep
) -> None:
    given = delivery(message(attempt=2)._replace(stats=b'{"retry_count":2}'), fence=4, place=Place.STORE)
    record = keep.record(given.message, given.fence, outcome, NOW, stats=given.message.stats)
    settled = done(given, record)
    assert settled == settle(given, outcome, Policy(keep=keep), NOW)
    assert isinstance(settled.receipt, Receipt)
    assert isinstance(settled.effects, Effects)
