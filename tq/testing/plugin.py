"""A pytest plugin: tests may be coroutines, run in virtual time, and must leave nothing behind.

Load it with `-p tq.testing.plugin`. Every `async def` test runs on a fresh `VirtualLoop`, or on an ordinary loop under
the marker `realtime`. A test that passed and left a task, a timer or a call in a thread behind fails (INV-10).

Beside pytest-asyncio a test that says `@pytest.mark.asyncio` is that plugin's; what its mode "auto" takes without such
a word runs here.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tq.clock import Clock, SystemClock
from tq.testing.probe import Probe
from tq.testing.virtual import VirtualClock, VirtualLoop, timers_of, where

__all__ = ["clock", "probe", "run_test"]

pytest.register_assert_rewrite("tq.testing.contracts")


def pytest_configure(config: pytest.Config) -> None:
    """Make the markers known, for projects that do not list them."""
    config.addinivalue_line("markers", "realtime: runs on an ordinary event loop instead of virtual time")
    config.addinivalue_line("markers", "spec(*ids): names the behaviours that the test holds")


@pytest.fixture
def clock(request: pytest.FixtureRequest) -> Clock:
    """The clock of the test: virtual, or the machine's own under the marker `realtime`."""
    return SystemClock() if is_realtime(request.node) else VirtualClock()


@pytest.fixture
def probe() -> Probe:
    """A probe that has seen nothing."""
    return Probe()


def is_realtime(item: pytest.Item) -> bool:
    """Tell whether a test asks for an ordinary loop."""
    return item.get_closest_marker("realtime") is not None


def is_taken(item: pytest.Item) -> bool:
    """Tell whether pytest-asyncio marked a test that says nothing of it, nor do its class and its module."""
    said = [*getattr(getattr(item, "function", None), "pytestmark", ())]
    above = item.parent.get_closest_marker("asyncio") if item.parent is not None else None
    marked = item.get_closest_marker("asyncio") is not None
    return marked and above is None and not any(mark.name == "asyncio" for mark in said)


def own_test(test: Callable[..., Any], *, taken: bool) -> Callable[..., Any]:
    """Return the test itself where pytest-asyncio has wrapped it to run it on a loop of its own."""
    inner = getattr(test, "__wrapped__", None)
    return inner if taken and inspect.iscoroutinefunction(inner) else test


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that is a coroutine function; leave all others to pytest."""
    test = own_test(pyfuncitem.obj, taken=is_taken(pyfuncitem))
    realtime = is_realtime(pyfuncitem)
    drawn = getattr(test, "hypothesis", None)
    if drawn is not None and inspect.iscoroutinefunction(drawn.inner_test):
        drawn.inner_test = synchronous(drawn.inner_test, realtime)  # each example gets a loop of its own
        return None
    if not inspect.iscoroutinefunction(test):
        return None
    wanted = inspect.signature(test).parameters
    run_test(test(**{name: pyfuncitem.funcargs[name] for name in wanted if name in pyfuncitem.funcargs}), realtime)
    return True


def synchronous(test: Callable[..., Coroutine[Any, Any, None]], realtime: bool) -> Callable[..., None]:  # noqa: FBT001 -- called once, above
    """Return a plain function that runs a coroutine test."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        run_test(test(*args, **kwargs), realtime)

    return run


def run_test(test: Coroutine[Any, Any, None], realtime: bool = False) -> None:  # noqa: FBT001, FBT002 -- as the marker says
    """Run one test to its end and check that it left nothing behind.

    Raises:
        AssertionError: it did, or an exception was raised where nobody could see it.
    """
    unseen: list[str] = []

    def note(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        unseen.append(f"{context.get('message')}: {context.get('exception')!r}")
        loop.default_exception_handler(context)

    with asyncio.Runner(loop_factory=None if realtime else VirtualLoop) as runner:
        loop = runner.get_loop()
        loop.set_exception_handler(note)
        runner.run(test)
        left = runner.run(leftovers())
    found = [*left, *(f"an exception that nobody saw: {words}" for words in unseen)]
    assert not found, "the test left behind:\n  " + "\n  ".join(found)


async def leftovers() -> list[str]:
    """Return what still lives on this loop, besides the caller."""
    loop = asyncio.get_running_loop()
    for _ in range(10):  # what was cancelled or set just now may end
        await asyncio.sleep(0)
    tasks = [f"the task {where(task)}" for task in asyncio.all_tasks() - {asyncio.current_task()}]
    timers = [f"the timer {timer!r}" for timer in timers_of(loop)]
    threads = loop.outstanding if isinstance(loop, VirtualLoop) else 0
    return [*sorted(tasks), *timers, *([f"{threads} calls in threads"] if threads else [])]
