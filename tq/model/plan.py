"""What a flow is asked to be: its steps, its join, and how many failures it may bear."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import blake2b
from operator import attrgetter
from typing import Any, Literal, NamedTuple, TypedDict

from tq.clock import seconds
from tq.errors import InvalidInputError
from tq.model.entity import Entity

__all__ = [
    "FailurePolicy",
    "FlowOptions",
    "FlowRequest",
    "FlowStep",
    "Join",
    "Member",
    "Tolerance",
    "quorum",
    "tolerate",
]

MAX_STEPS = 100_000
PART = 500
"""Members of one part of a plan's digest."""

_NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class FlowStep:
    """One member of a flow: `FlowStep("images.resize", queue="media", payload={...})`.

    Raises:
        InvalidInputError: a field is refused, before the flow is anywhere.
    """

    type: str
    queue: str = field(default="default", kw_only=True)
    payload: Any = field(default=None, kw_only=True)
    entity: Entity | None = field(default=None, kw_only=True)
    retries: int | None = field(default=None, kw_only=True)
    retry_after: float | timedelta | None = field(default=None, kw_only=True)
    partition_key: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        _check_target("step", self.type, self.queue)
        if self.entity is not None and not isinstance(self.entity, Entity):  # pyright: ignore[reportUnnecessaryIsInstance] -- users pass anything
            raise InvalidInputError("step.entity", self.entity, "give Entity(type, id)")
        if self.retries is not None and (type(self.retries) is not int or self.retries < 0):
            raise InvalidInputError("step.retries", self.retries, "give a whole number, zero or more")
        if self.retry_after is not None:
            seconds("step.retry_after", self.retry_after)
        if self.partition_key is not None and not isinstance(self.partition_key, str):  # pyright: ignore[reportUnnecessaryIsInstance] -- users pass anything
            raise InvalidInputError("step.partition_key", self.partition_key, "give a string, or none")


@dataclass(frozen=True, slots=True)
class Join:
    """The task that runs once every member has an entry: `Join("item.process.completed")`."""

    type: str
    queue: str = field(default="default", kw_only=True)

    def __post_init__(self) -> None:
        _check_target("join", self.type, self.queue)


def _check_target(what: str, type: object, queue: object) -> None:
    if not isinstance(type, str) or not type or "\0" in type:
        raise InvalidInputError(
            f"{what}.type", type, "give the name under which an executor is registered, no NUL in it"
        )
    if not isinstance(queue, str) or not queue or "\0" in queue:
        raise InvalidInputError(f"{what}.queue", queue, "give the name of a queue, no NUL in it")


class Tolerance(NamedTuple):
    """A failure policy with a number in it; made by `tolerate` and `quorum`."""

    kind: Literal["tolerate", "quorum"]
    count: int | float  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleMethodOverride] -- tuple.count is not wanted here
    cancel_siblings: bool = False


def tolerate(count: float, *, cancel_siblings: bool = False) -> Tolerance:
    """Bear up to `count` failures: a whole number of members, or a share of them between 0.0 and 1.0."""
    return Tolerance("tolerate", count, cancel_siblings)


def quorum(count: int, *, cancel_siblings: bool = False) -> Tolerance:
    """Complete at `count` successes, whatever is still open; abort as soon as they are out of reach."""
    return Tolerance("quorum", count, cancel_siblings)


@dataclass(frozen=True, slots=True)
class FailurePolicy:
    """A policy compiled for a flow of a known size: two integers that every backend can compare."""

    allowed: int
    needed: int
    cancel_siblings: bool
    words: str

    @classmethod
    def compile(
        cls,
        policy: str | Tolerance,
        total: int,
        *,
        tolerate: float | None = None,
        quorum: int | None = None,
        cancel_siblings: bool = False,
    ) -> FailurePolicy:
        """Compile the arguments of `start_flow`.

        `"continue"` bears every failure, `"abort"` none; `tolerate=` and `quorum=` stand in for `policy`.

        Raises:
            InvalidInputError: an unknown word, two policies at once, a share outside 0 … 1, a negative count, a quorum
                above the number of members.
        """
        if tolerate is not None and quorum is not None:
            raise InvalidInputError("quorum", quorum, "give either tolerate= or quorum=, not both")
        if policy != "continue" and (tolerate is not None or quorum is not None):
            raise InvalidInputError("failure_policy", policy, "give either a policy, or tolerate= or quorum=, not both")
        if tolerate is not None:
            policy = Tolerance("tolerate", tolerate)
        if quorum is not None:
            policy = Tolerance("quorum", quorum)
        if isinstance(policy, Tolerance):
            return cls._with_number(policy._replace(cancel_siblings=cancel_siblings or policy.cancel_siblings), total)
        if policy == "continue":
            return cls(total, total, cancel_siblings, "continue")
        if policy == "abort":
            return cls(0, total, cancel_siblings, "abort")
        raise InvalidInputError("failure_policy", policy, 'give "continue", "abort", tolerate= or quorum=')

    @classmethod
    def _with_number(cls, policy: Tolerance, total: int) -> FailurePolicy:
        kind, count, cancel_siblings = policy
        if not _is_number(count) or not math.isfinite(count) or count < 0:
            raise InvalidInputError(kind, count, "give a number, zero or more")
        if kind == "tolerate":
            if isinstance(count, float):
                if count > 1:
                    raise InvalidInputError(kind, count, "give a share between 0.0 and 1.0, or a whole number")
                return cls(math.floor(count * total + 1e-9), total, cancel_siblings, f"tolerate={count}")
            return cls(count, total, cancel_siblings, f"tolerate={count}")
        if isinstance(count, float) or count < 1 or count > max(total, 1):
            raise InvalidInputError(kind, count, f"give a whole number from 1 to {total}, the number of steps")
        return cls(max(total - count, 0), count, cancel_siblings, f"quorum={count}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


class FlowOptions(TypedDict, total=False):
    """What every `start_flow` takes beside its steps and its join."""

    failure_policy: str | Tolerance
    """"continue" (the default), "abort", or what `tolerate` and `quorum` return."""
    timeout: float | timedelta | None
    """Seconds from the start to the deadline, at which the join runs with what there is."""
    entity: Entity | None
    """The domain object that the flow's row tells of."""
    key: str | None
    """What the flow's id is derived from, so that starting it twice starts it once."""
    tolerate: float | None
    quorum: int | None
    cancel_siblings: bool
    """Whether members still open at the verdict are cancelled."""


class Member(NamedTuple):
    """A step whose payload has passed the door: `payload` is JSON."""

    type: str
    queue: str
    payload: bytes
    entity: Entity | None = None
    retries: int | None = None
    retry_after: float | None = None
    partition_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowRequest:
    """A flow as asked for, checked, not yet written."""

    id: str
    members: tuple[Member, ...]
    join: Join
    policy: FailurePolicy
    timeout: float | None = None
    """Seconds from the start to the deadline."""
    entity: Entity | None = None
    log_context: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    worker_id: str = ""
    consumer_id: str = ""

    parts: tuple[bytes, ...] = ()
    """What `digest_of` says of every `PART` members, where it was asked while they were checked."""

    @property
    def digest(self) -> str:
        """The plan in a few characters: two requests with equal ones ask for the same (D-52)."""
        words = repr((self.join, self.policy, self.timeout, self.entity))
        digest = blake2b(words.encode("utf-8", "surrogatepass"), digest_size=12)
        starts = range(0, len(self.members), PART)
        digest.update(b"".join(self.parts or [digest_of(self.members[start : start + PART]) for start in starts]))
        return digest.hexdigest()


def digest_of(members: Sequence[Member]) -> bytes:
    """Return a digest of some members."""
    payloads = [member.payload for member in members]
    words: list[object] = [[len(payload) for payload in payloads]]
    for name in Member._fields:  # one after the other: mostly one value stands in all of them
        column = () if name == "payload" else tuple(map(attrgetter(name), members))
        words.append(column[:1] if len(set(column)) == 1 else column)
    digest = blake2b(repr(words).encode("utf-8", "surrogatepass"), digest_size=12)
    digest.update(b"".join(payloads))
    return digest.digest()
