"""Threads for plain functions: they keep no interpreter from its end, and work until there is none."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, ParamSpec, TypeVar

__all__ = ["Threads"]

P = ParamSpec("P")
T = TypeVar("T")


class Threads(Executor):
    """At most so many daemon threads, each made when there is work for which none is free.

    Those of `ThreadPoolExecutor` are waited for when the interpreter ends, and take no calls from then on: a body that
    blocks, which nobody can end from outside, would keep a worker's process whose task another one runs already, and
    nothing could be written by what is called `atexit`.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._changing = threading.Lock()
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._free = 0
        """Threads that wait for a call, less the calls that wait for them."""
        self._closed = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        with self._changing:
            if self._closed:
                raise RuntimeError("these threads are shut down")
            self._calls.put((future, partial(fn, *args, **kwargs)))
            if self._free > 0:
                self._free -= 1
            elif (count := len(self._threads)) < self._most:
                thread = threading.Thread(target=self._work, name=f"{self._name}-{count + 1}", daemon=True)
                thread.start()
                self._threads.append(thread)
            else:
                self._free -= 1
        return future

    def _work(self) -> None:
        while (item := self._calls.get()) is not None:
            tell = _made(*item)
            with self._changing:
                self._free += 1  # before it is told: whoever hears of it may have the next call for this thread
            tell()
            del item, tell  # what they hold is not to live until the next one comes

    def shutdown(self, wait: bool = False, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 -- as Executor has it
        """Take no more; threads end when they are free.

        What waits for a thread is run all the same, or dropped with `cancel_futures`.
        """
        with self._changing:
            self._closed = True
            while cancel_futures:
                try:
                    item = self._calls.get_nowait()
                except Empty:
                    break
                if item is not None:
                    item[0].cancel()
            for _ in self._threads:
                self._calls.put(None)
        for thread in self._threads if wait else ():
            thread.join()


def _made(future: Future[T], call: Callable[[], T]) -> Callable[[], None]:
    """Make a call, unless it was cancelled; return what tells its future of it."""
    if not future.set_running_or_notify_cancel():
        return _nothing
    try:
        return partial(future.set_result, call())
    except BaseException as error:  # noqa: BLE001 -- it is for whoever awaits the future
        return partial(future.set_exception, error)


def _nothing() -> None: ...
