"""The task: one unit of work, as its producer writes it and as its executor sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import FrozenInstanceError, dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, Generic, TypedDict, TypeVar, cast, final

from tq.clock import seconds, to_instant
from tq.errors import InvalidInputError
from tq.model.entity import Entity

__all__ = ["MISSING", "Missing", "Task", "TaskOptions", "amended", "trusted"]

P = TypeVar("P", covariant=True)

_NOTHING: Mapping[str, Any] = {}


@final
class Missing:
    """The type of `MISSING`: no result was given, which is not the same as the result None."""

    def __repr__(self) -> str:
        return "MISSING"

    def __bool__(self) -> bool:
        return False


MISSING: Final = Missing()


@dataclass(frozen=True, kw_only=True)  # no slots: in Python 3.11 a frozen generic with slots refuses Task[X](…)
class Task(Generic[P]):
    """One unit of work.

    A producer gives `type`, `payload` and whatever options it needs; tq fills the rest. Durations are seconds, instants
    are aware datetimes. Nothing of the framework's is ever put into `payload` (MOD-04).

    Raises:
        InvalidInputError: a field is refused; it says which, what was given, and what to give instead.
    """

    type: str
    payload: P = cast(Any, None)  # noqa: RUF009 -- a plain None: tasks without payload are common
    queue_id: str = "default"
    id: str = ""
    """Identity, at most 200 characters; made in `add_tasks` when empty."""
    execute_at: datetime | None = None
    """Not before this; absent means now."""
    expires_at: datetime | None = None
    """Not at or after this; absent means never."""
    retries: int | None = None
    """Most retries after the first attempt; absent means the executor's default."""
    retry_after: float | timedelta | None = None
    """Base of the backoff, in seconds; absent means the executor's, then 2."""
    force_store: bool = False
    """Give it to the store at once, however soon it is due."""
    partition_key: str | None = None
    task_group: str | None = None
    task_hash: str | None = None
    entity: Entity | None = None
    metadata: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
    """`log_context`: str → str, handed down to children. `flow_meta`: written by tq."""
    created_at: datetime | None = None
    execution_stats: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
    """What earlier attempts left: `retry_count`, `last_error`, `last_error_stack`, … (MOD-05)."""
    generation: int = 0
    """Raised by replay, retry by hand and redrive."""
    attempt: int = 0
    """Retries consumed: 0 in the first attempt."""
    fence: int = 0
    """Times this task was handed out: give it to a system that can refuse a smaller number than it has seen."""

    def __post_init__(self) -> None:
        if not isinstance(self.type, str) or not self.type or "\0" in self.type:  # type: ignore[redundant-expr]  # pyright: ignore[reportUnnecessaryIsInstance] -- users pass anything
            raise InvalidInputError(
                "type", self.type, "give the name under which an executor is registered, no NUL in it"
            )
        if not isinstance(self.queue_id, str) or not self.queue_id or "\0" in self.queue_id:  # type: ignore[redundant-expr]  # pyright: ignore[reportUnnecessaryIsInstance] -- users pass anything
            raise InvalidInputError("queue_id", self.queue_id, "give the name of a queue, no NUL in it")
        if not isinstance(self.id, str) or len(self.id) > 200:  # type: ignore[redundant-expr]  # pyright: ignore[reportUnnecessaryIsInstance] -- users pass anything
            raise InvalidInputError("id", self.id, "give a string of at most 200 characters, or none")
        if self.retries is not None and (
            not isinstance(self.retries, int) or isinstance(self.retries, bool) or self.retries < 0  # type: ignore[redundant-expr]  # pyright: ignore[reportUnnecessaryIsInstance] -- users pass anything
        ):
            raise InvalidInputError("retries", self.retries, "give a whole number, zero or more")
        if self.retry_after is not None:
            seconds("retry_after", self.retry_after)
        if self.execute_at is not None:
            _check_instant("execute_at", self.execute_at)
        if self.expires_at is not None:
            _check_instant("expires_at", self.expires_at)
        if self.created_at is not None:
            _check_instant("created_at", self.created_at)
        if self.entity is not None and not isinstance(self.entity, Entity):  # pyright: ignore[reportUnnecessaryIsInstance] -- users pass anything
            raise InvalidInputError("entity", self.entity, "give Entity(type, id)")
        if self.metadata is not _NOTHING:
            _check_mapping("metadata", self.metadata)
        if self.execution_stats is not _NOTHING:
            _check_mapping("execution_stats", self.execution_stats)
        if self.partition_key is not None:
            _check_text("partition_key", self.partition_key)
        if self.task_group is not None:
            _check_text("task_group", self.task_group)
        if self.task_hash is not None:
            _check_text("task_hash", self.task_hash)
        if not isinstance(self.force_store, bool):  # pyright: ignore[reportUnnecessaryIsInstance] -- users pass anything
            raise InvalidInputError("force_store", self.force_store, "give True or False")

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt of one generation: give it to systems that drop what they have seen."""
        return f"{self.id}:{self.generation}"

    @property
    def born(self) -> float:
        """The instant of its making, 0 where nobody said: what tells apart two tasks that had one id after another."""
        return 0.0 if self.created_at is None else self.created_at.timestamp()

    @property
    def log_context(self) -> Mapping[str, str]:
        """Keys that every log line of this task, and of its children, carries."""
        return cast("Mapping[str, str]", self.metadata.get("log_context") or _NOTHING)

    @property
    def flow_meta(self) -> Mapping[str, Any] | None:
        """`flow_id`, `step_index`, `total_steps`, `join` for members and joins of a flow, else None (FLOW-31)."""
        return cast("Mapping[str, Any] | None", self.metadata.get("flow_meta"))


def _check_instant(name: str, when: object) -> None:
    if not isinstance(when, datetime):
        raise InvalidInputError(name, when, "give an aware datetime")
    to_instant(name, when)


def _check_mapping(name: str, values: object) -> None:
    if not isinstance(values, Mapping):
        raise InvalidInputError(name, values, "give a mapping")


def _check_text(name: str, text: object) -> None:
    if not isinstance(text, str):
        raise InvalidInputError(name, text, "give a string, or none")


class TaskOptions(TypedDict, total=False):
    """What a producer may say of a task beside its type, queue and payload: those fields of `Task`."""

    id: str
    execute_at: datetime | None
    expires_at: datetime | None
    retries: int | None
    retry_after: float | timedelta | None
    force_store: bool
    partition_key: str | None
    task_group: str | None
    task_hash: str | None
    entity: Entity | None
    metadata: Mapping[str, Any]
    created_at: datetime | None
    execution_stats: Mapping[str, Any]


def _refuse(task: object, name: str, _value: object) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r} of {task!r}")


_UNSAID: Final[dict[str, Any]] = vars(Task[Any](type="any")).copy()
"""The fields of a task of which nothing was said but its type."""


_blank: Callable[[], Task[Any]] = partial(object.__new__, Task)


def trusted(fields: Mapping[str, Any]) -> Task[Any]:
    """Return a task of fields that were checked before, by a `Task` or by the codec: that takes most of the time."""
    task = _blank()
    task.__dict__.update(_UNSAID)
    task.__dict__.update(fields)
    return task


def amended(task: Task[Any], **fields: object) -> Task[Any]:
    """Return a task with these fields, which are right, instead of its own."""
    return trusted({**task.__dict__, **fields})


# Making `Task[Item](...)` tries to leave a note on the instance and expects AttributeError where that is refused; the
# method that a frozen dataclass with slots is given on Python 3.11 raises TypeError instead.
Task.__setattr__ = _refuse  # type: ignore[method-assign]
