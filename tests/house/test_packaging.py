"""What is installed is what stands in the tree: the lists in pyproject.toml, and the wheel itself."""

import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest

from tests.house.tree import PUBLIC, ROOT, adapters, pyproject

PROJECT = pyproject()
SHELF = adapters()


def test_the_wheel_holds_the_library_and_every_adapter() -> None:
    packages = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert packages == ["tq", *(f"adapters/{name}" for name in SHELF)]


def test_every_adapter_has_an_extra() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    assert sorted(f"tq_{name}" for name in extras if name not in {"cli", "dashboard", "dev", "test"}) == SHELF


def test_development_installs_every_extra() -> None:
    """Else the checkers see drivers that are not there."""
    extras = set(PROJECT["project"]["optional-dependencies"]) - {"dev"}
    (named,) = (line for line in PROJECT["project"]["optional-dependencies"]["dev"] if line.startswith("tq-tasks["))
    assert set(named.removeprefix("tq-tasks[").removesuffix("]").split(",")) == extras


def test_every_adapter_is_found_by_its_entry_point() -> None:
    targets = PROJECT["project"]["entry-points"]["tq.backends"].values()
    assert {target.partition(":")[0] for target in targets} >= {"tq.memory", *SHELF}


def test_every_adapter_carries_its_types() -> None:
    untyped = [
        path for path in ("tq", *(f"adapters/{name}" for name in SHELF)) if not (ROOT / path / "py.typed").is_file()
    ]
    assert not untyped, f"py.typed is missing: {untyped}"


@pytest.mark.parametrize("contract", PROJECT["tool"]["importlinter"]["contracts"], ids=lambda contract: contract["id"])
def test_a_contract_that_names_an_adapter_names_them_all(contract: dict[str, Any]) -> None:
    named = [strings(value) for value in contract.values() if not isinstance(value, bool)]
    for words in named:
        seen = {word.split(".")[0] for word in words if word.startswith("tq_")}
        assert not seen or seen == set(SHELF)


def test_import_linter_looks_at_every_adapter() -> None:
    assert PROJECT["tool"]["importlinter"]["root_packages"] == ["tq", *SHELF]


def strings(value: str | list[str]) -> list[str]:
    """Return the module names in one setting of a contract, whatever its punctuation."""
    text = value if isinstance(value, str) else " ".join(value)
    return text.replace("(", " ").replace(")", " ").split()


# What somebody does who has just installed tq: every public name, then one task through a file of SQLite.
FIRST_TASK = """
import asyncio
import importlib
import sys

for module in sys.argv[1:]:
    exec(f"from {module} import *", {})

from tq import Task, TaskHandler, TaskQueuesManager


async def main() -> None:
    executors = TaskQueuesManager()
    greeted: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    @executors.task("greet", queue="default")
    async def greet(name: str) -> None:
        greeted.set_result(f"hello {name}")

    async with TaskHandler.connect("sqlite:///first.db", executors) as handler:
        await handler.add_tasks([Task(type="greet", payload="world")])
        running = asyncio.create_task(handler.run())
        print(await asyncio.wait_for(greeted, timeout=30))
        running.cancel()
        await asyncio.wait([running])


asyncio.run(main())
"""


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command as a user would, without anything that points back to the source tree; return its output."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV", "COV"))}
    done = subprocess.run(command, cwd=cwd, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# What somebody sees who has not installed the drivers: the name of the extra, at once.
WITHOUT_DRIVERS = """
import importlib
import sys

from tq.errors import MissingExtraError

for name in sys.argv[1:]:
    try:
        importlib.import_module(f"tq_{name}")
    except MissingExtraError as error:
        print(error.extra)
"""


@pytest.mark.wheel
@pytest.mark.realtime
def test_the_wheel_works_without_the_source_tree(tmp_path: Path) -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    driven = sorted(name for name, needs in extras.items() if f"tq_{name}" in SHELF and needs)
    run(sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path / "dist", ROOT, cwd=tmp_path)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel, cwd=tmp_path)

    assert run(python, "-I", "-c", WITHOUT_DRIVERS, *driven, cwd=tmp_path).split() == driven
    run(
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        f"{wheel}[{','.join(driven)}]",
        cwd=tmp_path,
    )

    where = run(python, "-I", "-c", "import tq, tq_sqlite; print(tq.__file__, tq_sqlite.__file__)", cwd=tmp_path)
    assert str(ROOT) not in where
    assert "commit" in run(python, "-I", "-c", "import tq_redis.scripts as it; print(it.script().text)", cwd=tmp_path)
    assert run(python, "-I", "-c", FIRST_TASK, *PUBLIC, cwd=tmp_path) == "hello world\n"
    # What is read at run time is in the wheel, too.
    run(python, "-I", "-c", "from tq_postgres.schema import read; read('tables'), read('claims')", cwd=tmp_path)
