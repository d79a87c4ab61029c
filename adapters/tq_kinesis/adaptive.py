"""How much is read of a shard at once, and how long it rests: more while all goes well, much less once it does not.

Additive increase, multiplicative decrease: sure to settle, whatever the others do. The constants are those of AIMD-01
to AIMD-10.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tq.clock import Clock, seconds
from tq.errors import InvalidInputError

__all__ = ["AdaptiveSnapshot", "AdaptiveStrategy", "Aimd", "BatchResult"]

START = 50
"""Records asked for at first."""
SHARDS = 10_000
"""Shards of which something is remembered; those heard of least recently are forgotten (D-77)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchResult:
    """What became of the messages of a shard since the last result."""

    shard_id: str
    record_count: int = 0
    success_count: int = 0
    failure_count: int = 0
    processing_time: float = 0.0
    """Seconds."""
    task_types: Sequence[str] = ()
    failed_task_types: Sequence[str] = ()
    throttled: bool = False
    poison_pill: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveSnapshot:
    """What a strategy thinks of a shard, or of all of them."""

    shard_id: str | None = None
    current_batch_size: int
    current_delay: float
    consecutive_successes: int = 0
    consecutive_failures: int = 0
    backoff_until: float | None = None
    """On the monotonic clock."""
    hot_task_types: Sequence[str] = ()


class AdaptiveStrategy(Protocol):
    """Decides for each shard by itself; asked before every read, told after it. Never waits."""

    @abstractmethod
    def get_batch_size(self, shard: str) -> int:
        """Return how many records to ask for."""

    @abstractmethod
    def get_processing_delay(self, shard: str) -> float:
        """Return for how many seconds a shard rests that had nothing, or whose messages fail."""

    @abstractmethod
    def should_backoff(self, shard: str) -> bool:
        """Return whether the shard is to be left alone for now (SHC-09)."""

    @abstractmethod
    def record_batch_result(self, result: BatchResult) -> None:
        """Learn what became of a batch."""

    @abstractmethod
    def get_snapshot(self, shard: str | None = None) -> AdaptiveSnapshot:
        """Return what is thought of a shard, or of all shards together."""

    @abstractmethod
    def forget(self, shard: str) -> None:
        """Drop what is known of a shard that is read here no more (D-77)."""


@dataclass(slots=True)
class _Shard:
    batch: int
    delay: float
    successes: int = 0
    """Since the batch last grew."""
    failures: int = 0
    until: float = -math.inf
    entries: deque[tuple[str, bool]] = field(default_factory=deque[tuple[str, bool]])


class Aimd(AdaptiveStrategy):
    """Every few good batches one step more; after a bad one half as much, and a longer rest.

    Raises:
        InvalidInputError: an option is refused.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        successes_before_increase: int = 3,
        add_step: int = 10,
        decrease_factor: float = 0.5,
        min_batch: int = 10,
        max_batch: int = 500,
        base_delay: float = 5.0,
        delay_multiplier: float = 1.5,
        max_delay: float = 30.0,
        backoff_threshold: int = 10,
        max_backoff: float = 60.0,
        rolling_window_size: int = 100,
    ) -> None:
        for name, value, least in (
            ("successes_before_increase", successes_before_increase, 1),
            ("add_step", add_step, 0),
            ("min_batch", min_batch, 1),
            ("max_batch", max_batch, min_batch),
            ("backoff_threshold", backoff_threshold, 1),
            ("rolling_window_size", rolling_window_size, 1),
        ):
            if value < least:
                raise InvalidInputError(name, value, f"give {least} or more")
        if not 0 < decrease_factor <= 1:
            raise InvalidInputError("decrease_factor", decrease_factor, "give a share above 0, up to 1")
        if not 1 <= delay_multiplier < math.inf:
            raise InvalidInputError("delay_multiplier", delay_multiplier, "give 1 or more")
        self._clock = clock
        self._every = successes_before_increase
        self._step = add_step
        self._factor = decrease_factor
        self._least, self._most = min_batch, max_batch
        self._base = seconds("base_delay", base_delay)
        self._multiplier = delay_multiplier
        self._longest = seconds("max_delay", max_delay)
        self._threshold = backoff_threshold
        self._longest_backoff = seconds("max_backoff", max_backoff)
        self._remembered = rolling_window_size
        self._shards: OrderedDict[str, _Shard] = OrderedDict()

    def _fresh(self) -> _Shard:
        return _Shard(min(max(START, self._least), self._most), self._base)

    def get_batch_size(self, shard: str) -> int:
        return self._shards.get(shard, self._fresh()).batch

    def get_processing_delay(self, shard: str) -> float:
        return self._shards.get(shard, self._fresh()).delay

    def should_backoff(self, shard: str) -> bool:
        known = self._shards.get(shard)
        return known is not None and known.until > self._clock.monotonic()

    def record_batch_result(self, result: BatchResult) -> None:
        state = self._shards.setdefault(result.shard_id, self._fresh())
        self._shards.move_to_end(result.shard_id)
        while len(self._shards) > SHARDS:
            self._shards.popitem(last=False)
        failed = set(result.failed_task_types)
        state.entries.extend((name, name in failed) for name in dict.fromkeys(result.task_types))
        while len(state.entries) > self._remembered:
            state.entries.popleft()
        if result.failure_count or result.throttled or result.poison_pill:
            self._failed(state)
        else:
            self._succeeded(state)

    def _succeeded(self, state: _Shard) -> None:
        state.failures, state.delay, state.until = 0, self._base, -math.inf
        state.successes += 1
        if state.successes >= self._every:
            state.successes = 0
            state.batch = min(state.batch + self._step, self._most)

    def _failed(self, state: _Shard) -> None:
        state.successes = 0
        state.failures += 1
        state.batch = max(math.floor(state.batch * self._factor), self._least)
        state.delay = min(state.delay * self._multiplier, self._longest)
        if state.failures >= self._threshold:
            wait = min(2.0 ** min(state.failures - self._threshold, 60), self._longest_backoff)
            state.until = self._clock.monotonic() + wait

    def get_snapshot(self, shard: str | None = None) -> AdaptiveSnapshot:
        if shard is not None:
            state = self._shards.get(shard, self._fresh())
            return AdaptiveSnapshot(
                shard_id=shard,
                current_batch_size=state.batch,
                current_delay=state.delay,
                consecutive_successes=state.successes,
                consecutive_failures=state.failures,
                backoff_until=self._until([state]),
                hot_task_types=_hot(state.entries),
            )
        states = list(self._shards.values()) or [self._fresh()]
        return AdaptiveSnapshot(
            current_batch_size=math.floor(sum(it.batch for it in states) / len(states) + 0.5),
            current_delay=math.floor(sum(it.delay for it in states) / len(states) * 1000 + 0.5) / 1000,
            consecutive_successes=sum(it.successes for it in states),
            consecutive_failures=sum(it.failures for it in states),
            backoff_until=self._until(states),
            hot_task_types=_hot(entry for it in states for entry in it.entries),
        )

    def _until(self, states: Sequence[_Shard]) -> float | None:
        latest = max(state.until for state in states)
        return latest if latest > self._clock.monotonic() else None

    def forget(self, shard: str) -> None:
        self._shards.pop(shard, None)


def _hot(entries: Iterable[tuple[str, bool]]) -> list[str]:
    """Return the types of which more than half have failed lately (AIMD-06)."""
    seen: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    for name, bad in entries:
        seen[name] += 1
        failed[name] += bad
    return sorted(name for name in seen if failed[name] * 2 > seen[name])
