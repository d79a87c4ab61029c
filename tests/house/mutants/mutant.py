"""What a mutant is, and short names for what breaks and what must see it."""

from dataclasses import dataclass, field

__all__ = ["CRASHES", "Mutant", "ahead", "memory", "mutant", "sqlite", "story", "unit"]

CONTRACT = "tests/contracts/test_{}.py::{}::{}"
CRASHES = "tests/unit/runner/test_composite_crashes.py::test_everything_ends_once_whichever_call_is_the_last"


@dataclass(frozen=True, slots=True)
class Mutant:
    """One fault: in `file`, each text of `edits` becomes the other; `tests` fail of it."""

    name: str
    file: str
    edits: tuple[tuple[str, str], ...] = field(kw_only=True)
    tests: tuple[str, ...] = field(kw_only=True)


def mutant(name: str, file: str, *edits: tuple[str, str], by: str | tuple[str, ...]) -> Mutant:
    return Mutant(name, file, edits=edits, tests=(by,) if isinstance(by, str) else by)


def ahead(of: str, *lines: str) -> tuple[str, str]:
    """Return the edit that writes lines ahead of a text."""
    return of, "".join(lines) + of


def memory(test: str, suite: str = "TestMemoryBackend") -> str:
    return CONTRACT.format("memory", suite, test)


def sqlite(test: str, suite: str = "TestSqliteBackend") -> str:
    return CONTRACT.format("sqlite", suite, test)


def story(file: str, test: str) -> str:
    return f"tests/stories/test_{file}.py::test_{test}"


def unit(file: str, test: str) -> str:
    return f"tests/unit/runner/test_composite_{file}.py::test_{test}"
