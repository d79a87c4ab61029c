"""The project speaks only of itself: no machine's paths, no addresses of registries, no open point without a number."""

import re
from pathlib import Path

import pytest

from tests.house.tree import ROOT, versioned_files

# Each expression is written so that it does not find itself.
NEVER = {
    "a path of one machine": re.compile(r"(?<![\w./~-])(?:/(?:home|root|Users|work|opt|mnt)/|[A-Z]:\\Users)[\w.]"),
    "the address of a package registry": re.compile(
        r"pypi\.(?:org|python)|pythonhosted\.org|registry\.(?:npmjs|yarnpkg)|(?:extra-)?index-[u]rl|proxy\.golang\.org"
    ),
}
OPEN_POINT = re.compile(r"\b(?:TO[D]O|FIX[M]E)\b")
NUMBERED = re.compile(r"RFC[ -]?\d+|#\d+")


def texts() -> list[tuple[Path, str]]:
    """Return every versioned file that is text."""
    found: list[tuple[Path, str]] = []
    for path in versioned_files():
        try:
            found.append((path.relative_to(ROOT), path.read_text(encoding="utf-8")))
        except UnicodeDecodeError:
            continue
    return found


@pytest.fixture(scope="module")
def lines() -> list[tuple[str, str]]:
    """Every line of the project with its place."""
    found = [
        (f"{path}:{number}: {line.strip()}", line)
        for path, text in texts()
        for number, line in enumerate(text.splitlines(), start=1)
    ]
    if not found:
        pytest.skip("not a git checkout")
    return found


@pytest.mark.parametrize("what", NEVER)
def test_no_file_contains(what: str, lines: list[tuple[str, str]]) -> None:
    assert not [place for place, line in lines if NEVER[what].search(line)]


def test_an_open_point_names_its_rfc_or_issue(lines: list[tuple[str, str]]) -> None:
    assert not [place for place, line in lines if OPEN_POINT.search(line) and not NUMBERED.search(line)]
