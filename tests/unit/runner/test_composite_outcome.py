"""An outcome is read as it was written, whatever it holds."""

from __future__ import annotations

import pytest

from tq.codec import dumps
from tq.errors import UnknownFormatError, WireError
from tq.model import (
    NO_EFFECTS,
    Chunk,
    Effects,
    Ending,
    Flow,
    Hold,
    Mark,
    Message,
    Outgoing,
    Projection,
    Rearm,
    Record,
    Remove,
    Reopen,
    Resolve,
    StepStatus,
    TaskStatus,
    Verdict,
)
from tq.runner.composite.outcome import Told, read_outcome, write_outcome

MESSAGE = Message("ä", "q", "t", b"\xff\x00body", 1900000000.123456, 1, 2, "lane", b'{"a":1}', 3)
FLOW = Flow(
    id="f",
    total=3,
    allowed=1,
    needed=2,
    join=MESSAGE,
    started_at=1.5,
    generation=1,
    deadline=9.25,
    cancel_siblings=True,
    parent="p",
    chunks=2,
    plan="f:1",
    meta=b'{"policy":"abort"}',
)
RECORD = Record("a", "q", "t", TaskStatus.FAILED, 1.0, 2.0, 1, 2, 3, True, b"null", "✗", b"{}", b"\xfe")
FULL = Effects(
    messages=(MESSAGE, MESSAGE._replace(id="b")),
    records=(RECORD, RECORD._replace(result=None, error=None, body=None, dead=False)),
    flows=(FLOW,),
    marks=(Mark("f", 1, StepStatus.FAIL, 1, None, "no"), Mark("f", 2, StepStatus.SUCCESS, 0, b"{}")),
    confirms=(("f", 1),),
    projections=(Projection("a", "e", "E", "t", "q", TaskStatus.EXECUTED, 6, 1.0, 2.0, b"1", None, "x"),),
    chunks=(Chunk("f:1", 0, (MESSAGE,), 3.5),),
    spreads=(("f", 2),),
    outgoing=(Outgoing("projection", "a:6", b"\xff", 4),),
    resolves=(Resolve("p", "f", Effects(records=(RECORD,), resolves=(Resolve("pp", "g", NO_EFFECTS),))),),
    reopens=(Reopen(flow_id="f", generation=2, join=MESSAGE, at=1.0, deadline=None, stats=b"{}"),),
    verdicts=(("f", Verdict.TIMED_OUT, "too late"),),
)


def test_every_part_of_effects_is_told() -> None:
    assert all(FULL)
    told = Told(Remove(), FULL, MESSAGE)
    assert read_outcome(write_outcome(told)) == told


@pytest.mark.parametrize("ending", [Remove(), Rearm(1.5, 2, b'{"retry_count":2}', 0.5), Hold("f")])
def test_an_ending_is_told(ending: Ending) -> None:
    assert read_outcome(write_outcome(Told(ending, NO_EFFECTS))) == Told(ending, NO_EFFECTS)


def test_the_same_outcome_of_two_deliveries_is_told_apart() -> None:
    told = Told(Remove(), FULL)
    assert write_outcome(told, "w:1") == write_outcome(told, "w:1") != write_outcome(told, "w:2")


def test_what_is_empty_takes_no_room() -> None:
    assert len(write_outcome(Told(Remove(), NO_EFFECTS), "w:1")) < 50


def test_a_newer_format_is_not_guessed_at() -> None:
    with pytest.raises(UnknownFormatError):
        read_outcome(dumps({"v": 2}))


@pytest.mark.parametrize("data", [b"", b"null", b"{}", b'{"v":1}', b'{"v":1,"ending":["fly"]}', b'{"v":1,"ending":[]}'])
def test_what_is_no_outcome_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        read_outcome(data)
