"""Where scripts are run: by a client of the event loop that asks, or inline in virtual time."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from heapq import heappop, heappush
from typing import Any, NamedTuple, Self

from tq.clock import Clock
from tq.errors import BackendError
from tq.lifecycle import OneProcess

from .bell import Bell, running_loop
from .check import check_layout, look_at
from .client import BlockingClient, Client, connect, connect_blocking
from .driver import exceptions
from .errors import mapped
from .scripts import script
from .settings import RedisSettings

__all__ = ["Answer", "Argument", "Call", "Server"]

Argument = str | bytes | int | float


class Call(NamedTuple):
    """What tells a call that is sent again from a new one: the server keeps the last answer of each slot."""

    slot: int
    number: int


class Answer(NamedTuple):
    """What a verb that writes answers, and what its claim handed out."""

    value: Any
    claimed: Any


class _Line(NamedTuple):
    loop: asyncio.AbstractEventLoop
    client: Client
    room: asyncio.Semaphore
    """Who needs one more connection than there may be waits: a limit is no error."""


class Server:
    """Runs verbs of the script.

    Due times and leases go by the server's own clock. In virtual time, where nothing may wait for a socket, a client
    that blocks is used, and the present is that of the virtual clock.
    """

    def __init__(self, settings: RedisSettings, clock: Clock, *, cluster: bool) -> None:
        self.settings = settings
        self.clock = clock
        self.place = settings.place
        self.caller = os.urandom(8).hex()
        self.bell = Bell(settings, clock, self.caller)
        self._cluster = cluster
        self._keys = (2, settings.root, f"{settings.root}:layout")
        self._closed = False
        self._process = OneProcess(self.place)
        """A child of its fork has the same `caller`: it would be given the answers to the parent's calls."""
        self._blocking = connect_blocking(settings, cluster=cluster) if clock.virtual else None
        self._line: _Line | None = None
        self._slots = 0
        self._free: list[int] = []
        self._numbers = 0

    @classmethod
    def open(cls, settings: RedisSettings, clock: Clock) -> Self:
        """Look at the server, and take the namespace.

        Raises:
            ConfigurationError: as `check` says.
            ForeignDatabaseError: the namespace is another program's, or a newer tq's.
            BackendError: and its branches, when the server cannot be used.
        """
        server = cls(settings, clock, cluster=look_at(settings, clock).cluster)
        client = server._blocking or connect_blocking(settings, cluster=server._cluster)
        try:
            answer = server._inline(client, server._sent("open", (), server.next_call()))
            check_layout(settings, answer[1])
        except BaseException:
            client.close()
            raise
        if client is not server._blocking:
            client.close()
        return server

    def beside(self) -> Server:
        """Return one more way to the same server, with connections of its own."""
        return Server(self.settings, self.clock, cluster=self._cluster)

    # --- verbs ----------------------------------------------------------------------------------------------------

    async def look(self, verb: str, arguments: Iterable[Argument] = ()) -> Any:
        """Run a verb that only looks."""
        return await self._send(self._sent(verb, arguments))

    async def write(self, verb: str, arguments: Iterable[Argument]) -> Any:
        """Run a verb that writes, and return its answer."""
        call = self.next_call()
        try:
            return (await self.write_once(verb, arguments, call)).value
        finally:
            self.give_back(call)

    async def write_once(self, verb: str, arguments: Iterable[Argument], call: Call) -> Answer:
        """Run a verb that writes; made again with the same `call`, it is done once and answers the same."""
        try:
            added, value, claimed = await self._send(self._sent(verb, arguments, call))
        except asyncio.CancelledError:
            self.bell.ring()  # it may have been done all the same, and somebody may be waiting for it
            raise
        if added:
            self.bell.ring()
        return Answer(value, claimed)

    def next_call(self) -> Call:
        """Return a call that was never made; its slot is its own until it is given back."""
        self._numbers += 1
        if self._free:
            return Call(heappop(self._free), self._numbers)
        self._slots += 1
        return Call(self._slots, self._numbers)

    def give_back(self, call: Call) -> None:
        """Let the slot of a call be used by others."""
        heappush(self._free, call.slot)

    # --- sending --------------------------------------------------------------------------------------------------

    def _sent(self, verb: str, arguments: Iterable[Argument], call: Call | None = None) -> list[Argument]:
        now = repr(self.clock.now()) if self.clock.virtual else ""
        slot, number, caller = ("", "", "") if call is None else (*call, self.caller)
        with mapped(self.place):  # whoever makes the arguments meets what cannot be written
            return [verb, now, slot, number, caller, *arguments]

    async def _send(self, arguments: list[Argument]) -> Any:
        if self._closed:
            raise BackendError(f"{self.place} was closed")
        self._process.check()
        if self._blocking is not None:
            return self._inline(self._blocking, arguments)
        line = self._of_this_loop()
        async with line.room:
            return await self._call(line.client, arguments)

    async def _call(self, client: Client, arguments: list[Argument]) -> Any:
        text, sha = script()
        with mapped(self.place):
            try:
                return await client.execute_command("EVALSHA", sha, *self._keys, *arguments)
            except exceptions.NoScriptError:  # never seen by this server, or forgotten in a restart
                return await client.execute_command("EVAL", text, *self._keys, *arguments)

    def _inline(self, client: BlockingClient, arguments: list[Argument]) -> Any:
        text, sha = script()
        with mapped(self.place):
            try:
                return client.execute_command("EVALSHA", sha, *self._keys, *arguments)
            except exceptions.NoScriptError:
                return client.execute_command("EVAL", text, *self._keys, *arguments)

    def _of_this_loop(self) -> _Line:
        """Return a client whose connections belong to the loop that runs; those of an ended loop are of no use."""
        loop = asyncio.get_running_loop()
        if self._line is None or self._line.loop is not loop:
            client = connect(self.settings, cluster=self._cluster)
            self._line = _Line(loop, client, asyncio.Semaphore(self.settings.connections))
        return self._line

    async def close(self) -> None:
        """Close the connections; may be called twice."""
        if self._closed or not self._process.here:
            return
        self._closed = True
        await self.bell.close()
        if self._blocking is not None:
            self._blocking.close()
        if self._line is not None and self._line.loop is running_loop():
            await self._line.client.aclose()
