"""The task store: long waits, long runs, endings, dead letters, outcomes and outgoing notes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from tq.model import Chunk, Message, Outgoing, Record, TaskStatus
from tq.ports.custody import Custody

__all__ = ["OutcomeKey", "Stored", "TaskStore"]


class OutcomeKey(NamedTuple):
    """An execution: the first outcome recorded for it counts for everybody."""

    task_id: str
    generation: int
    attempt: int


class Stored(NamedTuple):
    """An outcome as first recorded, and whether its effects are known to be carried out."""

    key: OutcomeKey
    outcome: bytes
    carried: bool
    at: float


class TaskStore(Custody, Protocol):
    """Durable: what it accepted is there until it is removed by name or by retention."""

    # --- custody that comes over from a queue ---------------------------------------------------------------------

    @abstractmethod
    async def park(self, message: Message, token: str, lease: float) -> bool:
        """Insert a message that is running, leased under `token`; False, and no change, if the id is there."""

    @abstractmethod
    async def put(self, messages: Sequence[tuple[Message, str]]) -> None:
        """Insert or, over an older (generation, attempt), replace; the second part is the flow that holds it, or ""."""

    @abstractmethod
    async def resolve(self, task_id: str, flow_id: str) -> bool:
        """Remove a message held by this flow; False if it is not."""

    @abstractmethod
    async def append_if_parked(self, lane: str, messages: Sequence[Message]) -> bool:
        """Add behind the lane's messages if it has any, in one atomic step; False, and no change, if it has none."""

    # --- endings --------------------------------------------------------------------------------------------------

    @abstractmethod
    async def record(self, records: Sequence[Record]) -> None:
        """Insert; over a record of the same id only if the generation is larger."""

    @abstractmethod
    async def records(self, ids: Sequence[str]) -> dict[str, Record]:
        """Return what is recorded for these ids."""

    @abstractmethod
    async def list_records(
        self,
        *,
        dead: bool | None = None,
        status: TaskStatus | None = None,
        queue: str | None = None,
        type: str | None = None,
        after: tuple[float, str] | None = None,
        limit: int = 100,
    ) -> Sequence[Record]:
        """Return records, newest first by (at, task_id); `after` is the (at, task_id) of the last one seen."""

    @abstractmethod
    async def revive(self, ids: Sequence[str], at: float, stats: bytes = b"") -> list[str]:
        """Turn records that kept a body back into messages due at `at`; return the ids revived.

        In one atomic step per id: the record goes, the message comes with generation + 1, attempt 0, no crashes, its
        fence counting on. An id that is live, unknown or has no body is left out.
        """

    @abstractmethod
    async def forget(self, ids: Sequence[str]) -> list[str]:
        """Remove records (purge of dead letters); return the ids removed."""

    # --- outcomes across servers ----------------------------------------------------------------------------------

    @abstractmethod
    async def put_outcomes(self, outcomes: Sequence[tuple[OutcomeKey, bytes]], at: float) -> dict[OutcomeKey, Stored]:
        """Record each unless its key has one; return those that were there before, as they are stored."""

    @abstractmethod
    async def outcomes(self, keys: Sequence[OutcomeKey]) -> dict[OutcomeKey, Stored]:
        """Return what is recorded."""

    @abstractmethod
    async def carried(self, keys: Sequence[OutcomeKey]) -> None:
        """Note that the effects of these are carried out."""

    @abstractmethod
    async def uncarried(self, after: OutcomeKey | None, limit: int) -> Sequence[Stored]:
        """Return outcomes not noted as carried out, those after `after`; a page of at most `limit`.

        Their order is the store's own, and always the same.
        """

    # --- wide plans -----------------------------------------------------------------------------------------------

    @abstractmethod
    async def put_chunks(self, chunks: Sequence[Chunk]) -> None:
        """Write parts of plans; one that is there stays as it is."""

    @abstractmethod
    async def chunk(self, plan: str, number: int) -> Chunk | None:
        """Return a part of a plan."""

    # --- outgoing notes -------------------------------------------------------------------------------------------

    @abstractmethod
    async def put_outgoing(self, notes: Sequence[Outgoing]) -> None:
        """Append in order, numbering them; a note whose (topic, id) is there stays as it is."""

    @abstractmethod
    async def outgoing(self, topic: str, limit: int) -> Sequence[Outgoing]:
        """Return the oldest notes of a topic, in order."""

    @abstractmethod
    async def sent(self, notes: Sequence[Outgoing]) -> None:
        """Remove notes that were handed over."""

    # --- upkeep ---------------------------------------------------------------------------------------------------

    @abstractmethod
    async def purge(self, now: float, remember: float, limit: int) -> int:
        """Drop what retention allows, at most about `limit` rows; return how many.

        Records past `expires_at`; carried outcomes and chunks older than `remember` seconds. Never a live message.
        """

    @abstractmethod
    async def stats(self) -> Mapping[str, int]:
        """Return row counts by kind: `records`, `dead`, `outcomes`, `chunks`, `outgoing`."""
