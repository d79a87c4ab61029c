"""The states of a task."""

import pytest

from tq.model import TaskStatus


@pytest.mark.spec("MOD-02")
def test_the_statuses_and_which_of_them_are_final() -> None:
    assert {status.value for status in TaskStatus if not status.terminal} == {"scheduled", "processing"}
    assert {status.value for status in TaskStatus if status.terminal} == {
        "executed",
        "failed",
        "expired",
        "ignored",
        "cancelled",
    }
