"""A worker's settings, checked when they are made."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any, TypedDict

from tq.clock import seconds
from tq.errors import ConfigurationError, InvalidInputError

__all__ = ["WorkerOptions", "WorkerSettings", "settings_from"]


class WorkerOptions(TypedDict, total=False):
    """The fields of `WorkerSettings`, as keywords."""

    concurrency: int
    lease: float | timedelta
    stall_limit: float | timedelta
    unknown_grace: float | timedelta
    grace_period: float | timedelta
    thread_count: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """Durations are seconds."""

    concurrency: int = 100
    """Most bodies at a time."""
    lease: float = 30.0
    """How long after a worker's death its tasks are handed to others."""
    stall_limit: float = 300.0
    """A loop that has not ticked for so long counts as dead: its leases are no longer renewed."""
    unknown_grace: float = 3600.0
    """How long a task of unknown type waits for a worker that knows it."""
    grace_period: float = 30.0
    """How long a stop waits for running bodies."""
    thread_count: int | None = None
    """Threads for plain `def` executors; absent means as many as `concurrency`."""

    def __post_init__(self) -> None:
        for name in ("concurrency", "thread_count"):
            value = getattr(self, name)
            if value is None and name == "thread_count":
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InvalidInputError(name, value, "give a whole number, 1 or more")
        for item in fields(self):
            if item.name not in ("concurrency", "thread_count"):
                object.__setattr__(
                    self, item.name, seconds(item.name, getattr(self, item.name), zero=item.name == "grace_period")
                )


def settings_from(settings: WorkerSettings | None, given: dict[str, Any]) -> WorkerSettings:
    """Return whole settings, or those made of single ones.

    Raises:
        ConfigurationError: both are given, or one that there is not.
    """
    if settings is not None and given:
        raise ConfigurationError(f"give settings=… or {', '.join(sorted(given))}, not both")
    unknown = set(given) - set(WorkerSettings.__slots__)
    if unknown:
        raise ConfigurationError(f"TaskHandler takes no {', '.join(sorted(unknown))}=…")
    return settings or WorkerSettings(**given)
