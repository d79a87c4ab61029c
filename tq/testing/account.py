"""What a run says of itself: what was accepted, what began, what joins were told. The servers must agree with it.

Executors write into an `Account` as they begin; every execution gets a stamp of its own, and hands it on in its result
and in the payload of what it brings. So it shows whose outcome counted, and whether everything that came of a task
came of that one execution. Processes that may be killed write line by line to a file, which the test gathers.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from typing import Any, NamedTuple, cast

from tq.codec import dumps, loads
from tq.errors import PayloadError, WireError
from tq.model import Task

__all__ = ["Account", "Began", "Joined", "stamp_in"]


class Began(NamedTuple):
    """An execution of a task, noted as its body began."""

    task_id: str
    generation: int
    attempt: int
    fence: int
    stamp: str
    """Its own, never used twice."""
    cause: str = ""
    """The stamp of the execution that brought this task forth, or empty."""
    entity: bool = False
    """Whether the task names an entity, and so has a row."""


class Joined(NamedTuple):
    """What an execution of a join was told."""

    task_id: str
    flow_id: str
    generation: int
    entries: list[list[Any]]
    """`[index, status, stamp of the result]` for every member, in the order in which they came."""


class Account:
    """Collects notes; `keep` is given each of them as a line, before the body goes on.

    Args:
        name: begins every stamp; give each process of a run its own.
        keep: writes a line where it outlives the process.
    """

    def __init__(self, name: str = "", keep: Callable[[str], object] | None = None) -> None:
        self.accepted: list[str] = []
        """Ids of tasks that the door acknowledged."""
        self.flows: list[str] = []
        """Ids of flows that were acknowledged, started from outside executors."""
        self.began: list[Began] = []
        self.joined: list[Joined] = []
        self._name = name
        self._keep = keep

    @classmethod
    def gathered(cls, lines: Iterable[str]) -> Account:
        """Return the account that these lines tell; the last one may be torn, as a kill leaves it."""
        account = cls()
        for line in lines:
            try:
                kind, *words = cast("list[Any]", loads(line.encode()))
            except (WireError, ValueError):
                continue
            account._enter(kind, words)
        return account

    def accept(self, *task_ids: str) -> None:
        """Note tasks that were acknowledged: from now on they must not be lost."""
        for task_id in task_ids:
            self._note("accepted", task_id)

    def started(self, *flow_ids: str) -> None:
        """Note flows that were acknowledged."""
        for flow_id in flow_ids:
            self._note("flow", flow_id)

    def begin(self, task: Task[Any]) -> str:
        """Note that the body of a task has begun; return the stamp to put into its result and its children."""
        stamp = f"{self._name}#{len(self.began)}"
        cause = stamp_in(task.payload)
        self._note("began", task.id, task.generation, task.attempt, task.fence, stamp, cause, task.entity is not None)
        return stamp

    async def join(self, task: Task[Any], results: AsyncIterable[Mapping[str, Any]]) -> str:
        """Note that a join has begun, and what `actions.flow_results(task)` tells it; return its stamp."""
        stamp, meta = self.begin(task), task.flow_meta or {}
        told = [[it["step_index"], str(it["status"]), stamp_in(it.get("result"))] async for it in results]
        self._note("joined", task.id, meta.get("flow_id", ""), meta.get("generation", 0), told)
        return stamp

    def _note(self, kind: str, *words: Any) -> None:
        if self._keep is not None:
            self._keep(dumps([kind, *words]).decode() + "\n")
        self._enter(kind, list(words))

    def _enter(self, kind: str, words: list[Any]) -> None:
        match kind:
            case "accepted":
                self.accepted += words
            case "flow":
                self.flows += words
            case "began":
                self.began.append(Began(*words))
            case "joined":
                self.joined.append(Joined(*words))
            case _:
                raise ValueError(f"no account has a note {kind!r}")


def stamp_in(value: object) -> str:
    """Return the stamp that a payload or a result carries, as itself or under the key "stamp"; empty if it has none.

    Bytes are taken for JSON.
    """
    if isinstance(value, bytes):
        try:
            value = loads(value)
        except (WireError, PayloadError, ValueError):
            return ""
    if isinstance(value, Mapping):
        value = cast("Mapping[str, object]", value).get("stamp")
    return value if isinstance(value, str) and "#" in value else ""
