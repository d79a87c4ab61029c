"""Which behaviours does no test name? `python tests/house/spec_ids.py` prints them, `--count` sums them up by family.

The behaviours that tq owes stand in `spec_ids.txt`, one per line: id, the RFC that retired it (`-` while it holds), and
what it says in a few words. Ids that begin with F- are failures of other libraries, each owed a test that would show it
here. A test names what it holds in its docstring or by `@pytest.mark.spec("RET-01")`.
"""

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HOUSE = Path(__file__).parent
ROOT = HOUSE.parents[1]
ID = re.compile(r"\b[A-Z]+-\d{2}\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """One line of the list."""

    id: str
    rfc: str | None
    title: str


def behaviours() -> dict[str, Behaviour]:
    """Return every behaviour on the list by its id."""
    found: dict[str, Behaviour] = {}
    for line in (HOUSE / "spec_ids.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            id, rfc, title = line.split(maxsplit=2)
            if id in found:
                raise ValueError(f"{id} stands twice in spec_ids.txt")
            found[id] = Behaviour(id=id, rfc=None if rfc == "-" else rfc, title=title)
    return found


def files_with_tests() -> list[Path]:
    """Return every file with tests: ours, and the public suites that every implementation of a port passes."""
    return sorted(path for folder in ("tests", "tq/testing") for path in (ROOT / folder).rglob("*.py"))


def marked(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    """Yield the ids in `@pytest.mark.spec(...)` above a test or a class of tests."""
    for decorator in node.decorator_list:
        match decorator:
            case ast.Call(func=ast.Attribute(attr="spec"), args=args):
                yield from (arg.value for arg in args if isinstance(arg, ast.Constant) and isinstance(arg.value, str))
            case _:
                pass


def named_in(source: str) -> tuple[set[str], set[str]]:
    """Return the ids that the tests of one file name: in docstrings, and in marks."""
    told: set[str] = set()
    marks: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) if name.startswith("test_"):
                pass
            case ast.ClassDef():
                pass
            case _:
                continue
        told.update(ID.findall(ast.get_docstring(node) or ""))
        marks.update(marked(node))
    return told, marks


def named() -> tuple[set[str], set[str]]:
    """Return the ids that all tests name: in docstrings, and in marks."""
    told: set[str] = set()
    marks: set[str] = set()
    for path in files_with_tests():
        in_docstrings, in_marks = named_in(path.read_text(encoding="utf-8"))
        told |= in_docstrings
        marks |= in_marks
    return told, marks


def unnamed() -> list[Behaviour]:
    """Return the behaviours that hold and that no test names."""
    told, marks = named()
    return [it for it in behaviours().values() if it.rfc is None and it.id not in told | marks]


def main() -> None:
    missing = unnamed()
    if "--count" in sys.argv[1:]:
        for family, count in Counter(it.id.partition("-")[0] for it in missing).most_common():
            print(f"{family:6}{count:4}")
    else:
        for it in missing:
            print(f"{it.id:9}{it.title}")
    print(f"{len(missing)} of {len(behaviours())} behaviours are named by no test")


if __name__ == "__main__":
    main()
