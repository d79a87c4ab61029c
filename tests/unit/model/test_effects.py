"""Effects add up, part by part, in order."""

from tq.model import NO_EFFECTS, Effects, Mark, StepStatus, Verdict

ONE = Effects(marks=(Mark("f", 0, StepStatus.SUCCESS),))
TWO = Effects(marks=(Mark("f", 1, StepStatus.FAIL),), verdicts=(("g", Verdict.TIMED_OUT, ""),))


def test_nothing_added_to_something_is_that_thing() -> None:
    assert NO_EFFECTS + ONE is ONE
    assert ONE + NO_EFFECTS is ONE
    assert not NO_EFFECTS
    assert not Effects()
    assert Effects(verdicts=(("g", Verdict.CANCELLED, ""),))


def test_parts_are_joined_in_order() -> None:
    both = ONE + TWO
    assert [mark.index for mark in both.marks] == [0, 1]
    assert both.verdicts == TWO.verdicts
    assert both.messages == ()
