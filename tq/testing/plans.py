"""Plans: which call goes wrong, and how; by number, by name, by dice, or for a while."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from tq.clock import Clock
from tq.testing.faults import Call, Fault, Plan

__all__ = ["at", "away", "dice", "either", "on", "script", "until"]


def at(number: int, fault: Fault) -> Plan:
    """Let the call of this number go wrong, counted from 1 over all ports."""
    return script({number: fault})


def script(faults: Mapping[int, Fault]) -> Plan:
    """Let the calls of these numbers go wrong: what `str(faults)` prints does the same again."""
    return lambda call: faults.get(call.number)


def on(name: str, fault: Fault, *, times: int = 1) -> Plan:
    """Let the first so many calls of this name go wrong, such as "store.put"."""
    left = times

    def plan(call: Call) -> Fault | None:
        nonlocal left
        if call.name != name or left <= 0:
            return None
        left -= 1
        return fault

    return plan


def dice(seed: int | str | random.Random, likely: float = 0.03, faults: Sequence[Fault] = tuple(Fault)) -> Plan:
    """Let each call go wrong with this likelihood, by one of these faults; the same seed does the same again."""
    chance = seed if isinstance(seed, random.Random) else random.Random(seed)
    return lambda _: chance.choice(faults) if chance.random() < likely else None


def away(clock: Clock, since: float, until: float, *, port: str = "") -> Plan:
    """Let every call fail between two instants, of one port or of all: a broker's outage.

    What is on its way as the outage begins takes effect, and its answer is lost.
    """
    begun = False

    def plan(call: Call) -> Fault | None:
        nonlocal begun
        if not since <= clock.now() < until or (port and call.name.partition(".")[0] != port):
            return None
        first, begun = not begun, True
        return Fault.AFTER if first else Fault.BEFORE

    return plan


def until(clock: Clock, end: float, plan: Plan) -> Plan:
    """Let a plan hold until this instant, and nothing go wrong afterwards."""
    return lambda call: plan(call) if clock.now() < end else None


def either(*plans: Plan) -> Plan:
    """Let go wrong what the first of these plans says that has something to say."""

    def plan(call: Call) -> Fault | None:
        for one in plans:
            if (fault := one(call)) is not None:
                return fault
        return None

    return plan
