"""What is printed cannot harm a terminal."""

from datetime import UTC, datetime

import pytest

from tq.cli.cursor import read_pair, write_pair
from tq.cli.text import instant, moment, plain, shortened
from tq.errors import InvalidInputError


@pytest.mark.parametrize("text", ["a\x1b[2Jb", "a\nb", "a\x9bb", "a\u202eb", "a\udcffb"])
def test_what_a_terminal_would_obey_is_replaced(text: str) -> None:
    assert plain(text).startswith("a�")
    assert plain(text).endswith("b")


def test_ordinary_text_is_kept() -> None:
    assert plain("größer – 漢字") == "größer – 漢字"


def test_a_long_text_is_cut_and_says_so() -> None:
    assert shortened("x" * 200, 10) == "x" * 9 + "…"
    assert shortened("first\nsecond") == "first…"
    assert shortened("short") == "short"


def test_instants_are_utc_to_the_second() -> None:
    assert instant(1.5) == "1970-01-01 00:00:01Z"
    assert instant(datetime(2030, 1, 2, tzinfo=UTC)) == "2030-01-02 00:00:00Z"
    assert instant(None) == ""
    assert moment(None) is None


@pytest.mark.parametrize("at", [0.0, 1732111526.389742, 1732111526.3897421])
def test_a_place_is_read_exactly_as_it_was_written(at: float) -> None:
    assert read_pair(write_pair(at, "a:b")) == (at, "a:b")


@pytest.mark.parametrize("text", ["", "1.0", "x:id"])
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="after is refused"):
        read_pair(text)
