"""Keep the leases of running tasks, whatever the event loop is busy with.

Renewal runs in a thread with an event loop and a connection of its own, so that an executor which blocks the loop does
not lose its task to another worker. It ends when the loop has not ticked for `stall_limit`: such a worker is as good as
dead, and its tasks must run elsewhere (design 1.4). In virtual time nothing may run beside the loop; there the same
rounds are made in the loop.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence

from tq.clock import Clock
from tq.lifecycle import Service
from tq.model import Delivery, Renewal
from tq.ports import Backend, Keeper

__all__ = ["LeaseKeeper"]

log = logging.getLogger("tq.keeper")

TICK = 1.0
BLOCKED_AFTER = 2.5
LAST_WAIT = 10.0
"""Seconds for which a stop waits for a renewal that hangs; the thread dies with the process."""


class LeaseKeeper(Service):
    """Renews what `held` returns every third of the lease; tells `renewed` what came of it.

    A server that does not answer is waited for no longer than half of the lease: a third of it may be over before, and
    it can be asked again, over another connection, before the lease is over.
    """

    def __init__(
        self,
        backend: Backend,
        clock: Clock,
        *,
        lease: float,
        stall_limit: float,
        held: Callable[[], Sequence[Delivery]],
        renewed: Callable[[Renewal], None],
    ) -> None:
        super().__init__()
        self._backend = backend
        self._clock = clock
        self._lease = lease
        self._stall_limit = stall_limit
        self._held = held
        self._renewed = renewed
        self._ticked = clock.monotonic()
        self._quit = threading.Event()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._warned = False
        self._next_round = self._ticked + lease / 3

    async def _main(self) -> None:
        if self._clock.virtual:
            while not self._stopping.is_set():
                try:
                    async with self._backend.keeper() as keeper:
                        await self._rounds(keeper)
                except Exception as error:  # noqa: BLE001 -- as below
                    log.warning("leases cannot be renewed, trying again: %s", error)
                    await self._pause(self._again)
            return
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._in_thread, name="tq-leases", daemon=True)
        self._thread.start()
        try:
            while not self._stopping.is_set():
                self._ticked = self._clock.monotonic()
                await self._pause(TICK)
        finally:
            self._quit.set()
            await self._loop.run_in_executor(None, self._thread.join, LAST_WAIT)

    async def _pause(self, delay: float) -> None:
        try:
            async with self._clock.timeout(delay):
                await self._stopping.wait()
        except TimeoutError:
            pass

    async def _rounds(self, keeper: Keeper) -> None:
        while not self._stopping.is_set():
            await self._pause(self._next_round - self._clock.monotonic())
            if (renewal := await self._round(keeper)) is not None:
                self._renewed(renewal)

    async def _round(self, keeper: Keeper) -> Renewal | None:
        held = self._held()
        now = self._clock.monotonic()
        self._next_round = now + self._lease / 3
        if not held:
            return None
        try:
            async with self._clock.timeout(self._lease / 2):
                return await keeper.renew(held, self._lease)
        except TimeoutError:
            log.warning("leases could not be renewed, trying again: %s did not answer in time", self._backend.name)
            self._next_round = now + self._again
            return None
        except Exception as error:  # noqa: BLE001 -- as below
            log.warning("leases could not be renewed, trying again: %s", error)
            self._next_round = now + self._again
            return None

    @property
    def _again(self) -> float:
        """Seconds after which a renewal that failed is tried again: well before the leases run out."""
        return min(TICK, self._lease / 6)

    def _in_thread(self) -> None:
        while not self._quit.is_set():
            try:
                asyncio.run(self._thread_main())
            except Exception as error:  # noqa: BLE001 -- without this thread every long task runs twice: it never gives up
                log.warning("leases cannot be renewed, trying again: %s", error)
                self._quit.wait(self._again)

    async def _thread_main(self) -> None:
        async with self._backend.keeper() as keeper:
            while not self._quit.is_set():
                await self._clock.sleep(min(0.1, self._lease / 10))
                now = self._clock.monotonic()
                if self._stalled(now - self._ticked):
                    continue
                if now < self._next_round:
                    continue
                renewal = await self._round(keeper)
                if renewal is not None and (renewal.lost or renewal.cancelled) and self._loop is not None:
                    try:
                        self._loop.call_soon_threadsafe(self._renewed, renewal)
                    except RuntimeError:  # the loop was closed without a stop: nobody is left to tell
                        self._quit.set()

    def _stalled(self, age: float) -> bool:
        """Warn, once per stall, that the loop is blocked; tell whether renewing has to end."""
        if age < BLOCKED_AFTER:
            self._warned = False
            return False
        if not self._warned:
            self._warned = True
            log.warning(
                "the event loop has been blocked for %.1f s by an executor; leases are kept for up to %g s: run "
                "blocking code in a plain `def` executor",
                age,
                self._stall_limit,
            )
        return age > self._stall_limit
