"""When a failed attempt is tried again: pure arithmetic (RET-01 … RET-06)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tq.clock import seconds
from tq.errors import InvalidInputError

__all__ = ["DEFAULT_RETRY_AFTER", "RETRY_DELAY_CAP", "Backoff", "attempts_left", "retry_count", "retry_delay"]

DEFAULT_RETRY_AFTER = 2.0
RETRY_DELAY_CAP = 300.0


def retry_delay(
    attempt: int, retry_after: float | None = None, *, jitter: float = 0.0, cap: float = RETRY_DELAY_CAP
) -> float:
    """Return the seconds to wait after attempt number `attempt` (0 for the first) failed.

    `retry_after × (attempt + 1)²`, stretched or shrunk by `jitter` (a share, -0.1 … 0.1 by default of the caller), and
    at most `cap`, jitter included. An absent `retry_after` is 2 s, zero is no wait; a negative one counts as zero,
    never as the past (RET-02).
    """
    base = DEFAULT_RETRY_AFTER if retry_after is None else max(retry_after, 0.0)
    return min(min(base * (attempt + 1) ** 2, cap) * (1.0 + jitter), cap)


def retry_count(stats: Mapping[str, object]) -> int:
    """Return how many retries were consumed; whatever is not a whole number counts as none (RET-03)."""
    value = stats.get("retry_count")
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def attempts_left(attempt: int, task_retries: int | None, executor_retries: int) -> bool:
    """Tell whether another attempt may follow: the task's own limit wins, 0 included (RET-04, RET-05)."""
    return attempt < (executor_retries if task_retries is None else task_retries)


@dataclass(frozen=True, slots=True)
class Backoff:
    """How an executor spaces its retries: `Backoff(base=2.0, cap=300.0, jitter=0.1)`; `jitter=0` switches it off."""

    base: float = DEFAULT_RETRY_AFTER
    cap: float = RETRY_DELAY_CAP
    jitter: float = 0.1

    def __post_init__(self) -> None:
        seconds("backoff.base", self.base)
        seconds("backoff.cap", self.cap)
        if seconds("backoff.jitter", self.jitter) >= 1:
            raise InvalidInputError("backoff.jitter", self.jitter, "give a share below 1, such as 0.1 for ±10 %")

    def delay(self, attempt: int, retry_after: float | None, noise: float) -> float:
        """Return the seconds to wait; `noise` in -1 … 1 is scaled by the jitter."""
        base = self.base if retry_after is None else retry_after
        return retry_delay(attempt, base, jitter=self.jitter * noise, cap=self.cap)
