"""The plugin runs what is its own, also where another plugin has taken it; the harness runs nowhere else."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tq import TaskQueuesManager
from tq.clock import SystemClock
from tq.errors import ConfigurationError
from tq.testing import VirtualLoop
from tq.testing.harness import harness
from tq.testing.plugin import pytest_pyfunc_call


def on_a_loop_of_its_own(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Return a test as pytest-asyncio makes it its own."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


class Item:
    """A collected test, as far as the plugin looks at it, with the marks that it wears."""

    def __init__(self, test: Callable[..., object], *, function: object = None, marks: Sequence[str] = ()) -> None:
        self.obj = test
        self.function = function
        self.marks = marks
        self.parent = None
        self.funcargs: dict[str, object] = {}

    def get_closest_marker(self, name: str) -> object:
        return name if name in self.marks else None


def run(item: Item) -> bool | None:
    return pytest_pyfunc_call(cast("pytest.Function", item))


def test_what_the_auto_mode_of_another_plugin_took_runs_in_virtual_time() -> None:
    loops: list[asyncio.AbstractEventLoop] = []

    async def test_it() -> None:
        loops.append(asyncio.get_running_loop())

    assert run(Item(on_a_loop_of_its_own(test_it), function=test_it, marks=["asyncio"])) is True
    assert isinstance(loops[0], VirtualLoop)


def test_what_asks_for_another_plugin_is_left_to_it() -> None:
    async def test_it() -> None: ...

    wrapped = on_a_loop_of_its_own(test_it)
    assert run(Item(wrapped, function=wrapped)) is None, "a wrapper of the user's own"
    asking = SimpleNamespace(pytestmark=[SimpleNamespace(name="asyncio")])
    assert run(Item(wrapped, function=asking, marks=["asyncio"])) is None


@pytest.mark.realtime
async def test_the_harness_says_where_it_can_run_instead_of_waiting_for_ever() -> None:
    with pytest.raises(ConfigurationError, match=r"VirtualLoop.*tq\.testing\.plugin.*run_virtual"):
        async with harness(TaskQueuesManager()):
            pass
    async with harness(TaskQueuesManager(), clock=SystemClock()) as tasks:
        assert await tasks.flows() == []
