"""Workers of one run, and whoever shoots at them and at their server."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

from tests.crash.targets import Target
from tests.house.tree import ROOT
from tq import TaskHandler
from tq.errors import BackendError, TqError
from tq.testing import Account

__all__ = ["LEASE", "Workers", "fire", "quiet"]

LEASE = 1.5
LONGEST = 1.2
"""Seconds per shot within which they are fired: on a busy machine there are fewer."""
LAST = 60.0
"""Seconds for which nothing may move, once nobody shoots any more, unless everything is over."""
SOME = 5


class Workers:
    """Worker processes, each replaced when it is brought down. The first one renews no lease, until `cure`."""

    def __init__(self, target: Target, notes: Path, count: int) -> None:
        self._words = {"parts": target.parts, "notes": str(notes), "lease": LEASE}
        self._notes = notes
        self._lives = 0
        self._cured = False
        self._up: dict[int, Path] = {}
        self.running = [self._start(number) for number in range(count)]

    def _start(self, number: int) -> subprocess.Popen[bytes]:
        self._lives += 1
        self._up[number] = self._notes.with_name(f"up-{self._lives}")
        deaf = number == 0 and not self._cured
        told = json.dumps({**self._words, "up": str(self._up[number]), "deaf": deaf})
        return subprocess.Popen([sys.executable, "-m", "tests.crash.fired_upon", told], cwd=ROOT)

    def working(self) -> list[int]:
        """Return the numbers of those that have begun to work."""
        return [number for number, path in self._up.items() if path.exists()]

    async def cure(self) -> None:
        """Let every worker from now on keep what it holds."""
        self._cured = True
        await self.stop(0)

    async def kill(self, number: int) -> None:
        self.running[number].kill()
        await self._replace(number)

    async def stop(self, number: int) -> None:
        self.running[number].terminate()
        await self._replace(number)

    async def _replace(self, number: int) -> None:
        await asyncio.to_thread(self.running[number].wait, LAST)
        self.running[number] = self._start(number)

    def freeze(self, number: int, seconds: float) -> None:
        """Let a process stand still, and wake up for what it held when others have it."""
        process = self.running[number]
        process.send_signal(signal.SIGSTOP)
        asyncio.get_running_loop().call_later(seconds, process.send_signal, signal.SIGCONT)

    def revive(self) -> int:
        """Replace workers that ended by themselves, as one whose server stays away does; return how many."""
        ended = [number for number, process in enumerate(self.running) if process.poll() is not None]
        for number in ended:
            self.running[number] = self._start(number)
        return len(ended)

    def end(self) -> None:
        """Stop them all, so that nothing moves any more."""
        for process in self.running:
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in self.running:
            with suppress(subprocess.TimeoutExpired):
                process.wait(30)
            process.kill()
            process.wait()


async def fire(
    handler: TaskHandler, workers: Workers, target: Target, account: Account, dice: random.Random, count: int
) -> Counter[str]:
    """Bring down whoever comes before the muzzle, and cancel and redrive flows amid that; return how often."""
    loop, shots = asyncio.get_running_loop(), Counter[str]()
    until = loop.time() + LONGEST * count
    while loop.time() < until and shots.total() < count:
        await asyncio.sleep(dice.uniform(0.05, 0.5))
        shots["ended by themselves"] += workers.revive()
        if not (working := workers.working()):
            continue
        number = dice.choice(working)
        shot = dice.choice(["killed"] * 4 + ["frozen"] * 4 + ["stopped", "cancelled", "redriven", "server struck"])
        flow = handler.flow(dice.choice(account.flows))
        match shot:
            case "frozen":
                workers.freeze(number, dice.uniform(LEASE, 2 * LEASE))
            case "stopped":
                await workers.stop(number)
            case "cancelled":
                with suppress(TqError):  # it is over, or its server is away
                    await flow.cancel("no longer wanted")
            case "redriven":
                with suppress(TqError):  # it is not over
                    await flow.redrive()
            case "server struck":
                await asyncio.to_thread(target.strike)
            case _:
                await workers.kill(number)
        shots[shot] += 1
    await workers.cure()
    return shots


async def quiet(handler: TaskHandler, workers: Workers) -> None:
    """Return when nothing is left to do.

    Raises:
        AssertionError: it does not go on; tells of some that is left.
    """
    left, told, since = list[object](), (-1, list[object]()), handler.clock.monotonic()
    while handler.clock.monotonic() - since < LAST:
        await asyncio.sleep(0.5)
        workers.revive()
        with suppress(BackendError):
            left = await what_is_left(handler)
            if not left:
                return
            if (now := ((await handler.backend.store.stats())["records"], left)) != told:
                told, since = now, handler.clock.monotonic()
    raise AssertionError(f"it does not become quiet: {left}")


async def what_is_left(handler: TaskHandler) -> list[object]:
    """Return some messages that are not gone, and flows that are open or whose join is not on its way."""
    left: list[object] = []
    for part in (handler.backend.queue, handler.backend.store):
        left += await part.list(None, "", SOME)
    assert handler.backend.barrier is not None
    left += [state.id for state in await handler.backend.barrier.list(active=True, limit=SOME)]
    return left or [state.id for state in await handler.backend.barrier.due(handler.clock.now(), SOME)]
