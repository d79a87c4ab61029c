"""Where transactions run: one writer thread per backend, a reader beside it, or inline in virtual time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import TypeVar

from tq.clock import Clock
from tq.errors import BackendError
from tq.lifecycle import OneProcess
from tq.threads import Threads

from .connection import Connection, connect, transact
from .errors import mapped
from .opened import OpenedFile
from .settings import SqliteSettings

__all__ = ["Database", "Work"]

T = TypeVar("T")
Work = Callable[[Connection], T]

log = logging.getLogger("tq.sqlite")


class Database:
    """Runs whole transactions: `work` is given the connection and returns a value; it is called in the thread.

    In virtual time, where nothing may wait in a thread, transactions run in the event loop itself.
    """

    def __init__(self, settings: SqliteSettings, clock: Clock) -> None:
        self.settings = settings
        self.clock = clock
        self.place = settings.path or ":memory:"
        self._listeners: list[tuple[asyncio.AbstractEventLoop | None, Callable[[], object]]] = []
        self._closed = False
        self._process = OneProcess(self.place)
        self._version = 0
        self._writer = connect(settings)
        self._file = None if settings.private else OpenedFile(settings.path)
        self._look()
        self._reader: Connection | None = None
        self._writing: Threads | None = None
        self._reading: Threads | None = None
        if not clock.virtual:
            self._writing = Threads(1, "tq-sqlite-writer")
            if not settings.private:
                self._reader = connect(settings, readonly=True)
                self._reading = Threads(1, "tq-sqlite-reader")

    async def write(self, work: Work[T]) -> T:
        """Run a transaction that writes."""
        if self._writing is None:
            value, added = self._write(work)
        else:
            running = self._submit(self._writing, lambda: self._write(work))
            try:
                value, added = await asyncio.wrap_future(running)
            except asyncio.CancelledError:
                # What was begun is done all the same, and somebody may be waiting for it.
                running.add_done_callback(self._finished_alone)
                raise
        if added:
            self._tell()
        return value

    async def read(self, work: Work[T]) -> T:
        """Run a transaction that only reads; it waits for no writer and holds none up."""
        if self._reading is None:
            return await self.write(work) if self._writing else self._read(self._writer, work)
        reader = self._reader
        assert reader is not None  # noqa: S101 -- made together with its thread
        return await asyncio.wrap_future(self._submit(self._reading, lambda: self._read(reader, work)))

    def write_from_elsewhere(self, work: Work[T]) -> Future[T]:
        """Run a transaction on the writer for a caller in another thread: a private database has but one connection."""
        if self._writing is not None:
            return self._submit(self._writing, lambda: self._write(work)[0])
        future: Future[T] = Future()
        future.set_result(self._write(work)[0])
        return future

    async def changed(self) -> bool:
        """Tell whether other connections, so also other processes, have committed since this was last asked."""
        if self.settings.private:
            return False
        if self._writing is None:
            return self._look()
        return await asyncio.wrap_future(self._submit(self._writing, self._look))

    def on_change(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Call back after every commit of this backend that may make something due earlier; return what ends it.

        The callback is made in the event loop in which this was called.
        """
        listener = (running_loop(), callback)
        self._listeners.append(listener)

        def forget() -> None:
            with suppress(ValueError):
                self._listeners.remove(listener)

        return forget

    def close(self) -> None:
        """Finish what was begun and close the connections; may be called twice."""
        if self._closed or not self._process.here:  # what a child closed would be the parent's: its locks, too
            return
        self._closed = True
        for pool in (self._reading, self._writing):
            if pool is not None:
                pool.shutdown(wait=True)
        if self._reader is not None:
            self._reader.close()
        self._writer.close()

    # --- in the thread --------------------------------------------------------------------------------------------

    def _write(self, work: Work[T]) -> tuple[T, bool]:
        db = self._writer
        self._check_file()
        with mapped(self.place):
            return transact(db, self.clock.now, work), db.added

    def _read(self, db: Connection, work: Work[T]) -> T:
        self._check_file()
        with mapped(self.place):
            return transact(db, self.clock.now, work, begin="BEGIN")

    def _check_file(self) -> None:
        if self._file is not None:
            self._file.check()

    def _look(self) -> bool:
        with mapped(self.place):
            version: int = self._writer.execute("PRAGMA data_version").fetchone()[0]
        seen, self._version = self._version, version
        return seen != version

    # --- on either side -------------------------------------------------------------------------------------------

    def _submit(self, pool: Threads, call: Callable[[], T]) -> Future[T]:
        if self._closed:
            raise BackendError(f"{self.place} was closed")
        self._process.check()
        return pool.submit(call)

    def _tell(self) -> None:
        here = running_loop()
        for loop, callback in list(self._listeners):
            if loop is here or loop is None:
                callback()
            else:
                with suppress(RuntimeError):  # that loop is closed: nobody waits there
                    loop.call_soon_threadsafe(callback)

    def _finished_alone(self, done: Future[tuple[T, bool]]) -> None:
        if done.cancelled():
            return
        error = done.exception()
        if error is not None:
            log.warning("a transaction failed after its caller had gone: %s", error)
        elif done.result()[1]:
            self._tell()


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop of this thread, if one runs."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
