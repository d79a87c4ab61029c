"""The only reader of the time: every other file is given a `Clock`.

Inside tq an instant is a `float`: seconds since 1970-01-01T00:00Z. It is what every server stores without loss to the
microsecond, and costs nothing to compare. In public values an instant is an aware UTC `datetime`.
"""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import Protocol

from tq.errors import InvalidInputError

__all__ = ["FIRST", "LAST", "Clock", "SystemClock", "apart", "seconds", "to_datetime", "to_instant"]


_APART = 5.0
"""Seconds by which clocks may differ before it is said: less is lost among the delays of any network."""
FIRST, LAST = -62_135_596_800.0, 253_402_300_800.0
"""The instants that a datetime can tell, in UTC: the years 1 to 9999."""
_LAST_SECOND = LAST - 1
"""`datetime.max` as an instant is rounded up beyond it."""


class Clock(Protocol):
    """Tells the time and waits; a virtual one lets a whole system run through hours in milliseconds."""

    virtual: bool
    """True when time moves only as the event loop is idle: nothing may then wait in a thread of its own."""

    def now(self) -> float:
        """Return the present instant, in seconds since the epoch, UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go backwards, from an unspecified start."""
        ...

    async def sleep(self, delay: float) -> None:
        """Wait for `delay` seconds; zero or less yields once."""
        ...

    def timeout(self, delay: float | None) -> AbstractAsyncContextManager[object]:
        """Return a context that raises `TimeoutError` when its body takes longer than `delay` seconds."""
        ...


class SystemClock:
    """The machine's own clock."""

    virtual = False

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, delay: float) -> None:
        await asyncio.sleep(max(0, delay))

    def timeout(self, delay: float | None) -> AbstractAsyncContextManager[object]:
        return asyncio.timeout(delay)


def apart(place: str, theirs: float, ours: float) -> str:
    """Return what is to be said of a server whose clock is seconds away from ours; "" where it is not."""
    if abs(ours - theirs) < _APART:
        return ""
    which, when = ("ahead of", "later") if ours > theirs else ("behind", "earlier")
    off = f"the clock here is {abs(ours - theirs):.0f} s {which} that of {place}"
    return f"{off}: what is added or tried again from here falls due so much {when}; set both by the same time server"


def to_datetime(instant: float) -> datetime:
    """Return the aware UTC datetime of an instant; the last one there is stands for every later one."""
    return datetime.fromtimestamp(min(instant, _LAST_SECOND), UTC)


def to_instant(field: str, when: datetime) -> float:
    """Return the instant of an aware datetime.

    Raises:
        InvalidInputError: `when` is naive: it would mean another instant on another machine; or it is before the year 1
            or after the year 9999, in UTC, where nobody could read it.
    """
    if when.tzinfo is None:
        raise InvalidInputError(field, when, "give an aware datetime, such as datetime.now(UTC)")
    instant = when.timestamp()
    if not FIRST <= instant <= LAST:
        raise InvalidInputError(field, when, "give an instant that is within the years 1 to 9999 in UTC, too")
    return instant


def seconds(field: str, duration: float | timedelta, *, zero: bool = True) -> float:
    """Return a duration in seconds.

    Raises:
        InvalidInputError: negative, not finite, or zero where zero makes no sense.
    """
    value = duration.total_seconds() if isinstance(duration, timedelta) else duration
    if isinstance(value, bool) or not isinstance(value, int | float):  # pyright: ignore[reportUnnecessaryIsInstance] -- users pass anything
        raise InvalidInputError(field, duration, "give seconds as a number, or a timedelta")
    if not math.isfinite(value) or value < 0 or (value == 0 and not zero):
        rule = "zero or more" if zero else "more than zero"
        raise InvalidInputError(field, duration, f"give a finite number of seconds, {rule}")
    return float(value)
