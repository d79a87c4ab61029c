"""The script is what stands in lua/, all of it, and each of its files says what it is for."""

from pathlib import Path

import tq_redis
from tq_redis.scripts import script

LUA = sorted((Path(tq_redis.__file__).parent / "lua").glob("*.lua"))


def test_every_file_is_part_of_the_script() -> None:
    assert len(LUA) > 10
    missing = [path.name for path in LUA if path.read_bytes() not in script().text]
    assert not missing, f"name these in tq_redis/scripts.py: {missing}"


def test_every_file_opens_with_a_sentence_and_is_read_at_one_sitting() -> None:
    silent = [path.name for path in LUA if not path.read_text(encoding="utf-8").startswith("-- ")]
    long = [path.name for path in LUA if len(path.read_text(encoding="utf-8").splitlines()) > 320]
    assert (silent, long) == ([], [])


def test_the_script_is_the_same_for_every_caller() -> None:
    """Its name is made of its text: a script that differed from call to call would fill the server."""
    assert script() is script()
    assert len(script().sha) == 40
