"""What observers are told in sums, and of what went wrong around the tasks."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "CallbackFailed",
    "QueueStats",
    "TasksDiscarded",
    "TroubleReport",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStats:
    """Outcomes counted on one queue since they were last told (NTP-02)."""

    queue_name: str
    success: int = 0
    failed: int = 0
    async_: int = 0
    """Handed over to the async task manager; counted again, by outcome, when they end."""
    ignored: int = 0
    instance_id: str = ""

    def as_dict(self) -> dict[str, str | int]:
        """Return the fields by their names on the wire, where `async_` is `async`."""
        return {
            "queue_name": self.queue_name,
            "success": self.success,
            "failed": self.failed,
            "async": self.async_,
            "ignored": self.ignored,
            "instance_id": self.instance_id,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class TasksDiscarded:
    """Tasks failed for good (NTP-04)."""

    count: int
    last_24_hour_total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TroubleReport:
    """Something around the tasks went wrong (NTP-05): the error, and what was being done."""

    error: BaseException
    context: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackFailed:
    """A callback raised (D-59): its name, the event that it was given, and what it raised."""

    callback: str
    event: object
    error: BaseException
