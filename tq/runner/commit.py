"""Carry batches to the backend: again while it is away, in halves while it refuses something. Decides nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from tq.clock import Clock
from tq.errors import BackendError, ContentRefusedError, DatabaseGoneError, PayloadError
from tq.model import NO_EFFECTS, Batch, Chunk, Claim, Effects, Hop, Outcome, Receipt, Settlement
from tq.ports import Backend
from tq.runner.execution import Execution

__all__ = ["Committer", "Note", "Pending"]

log = logging.getLogger("tq.commit")

CHUNKS_AT_ONCE = 4
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 5.0


class Pending:
    """A settlement on its way, and the execution that it ends, if any."""

    __slots__ = ("execution", "outcome", "settlement")

    def __init__(
        self, settlement: Settlement, execution: Execution | None = None, outcome: Outcome | None = None
    ) -> None:
        self.settlement = settlement
        self.execution = execution
        self.outcome = outcome


Refuse = Callable[[Execution, Exception], Pending]
"""Makes what takes the place of an ending whose content the backend refuses."""


class Note:
    """Something written beside settlements; somebody awaits `done`: False where a lease it needs was lost."""

    __slots__ = ("done", "effects", "solo")

    def __init__(self, effects: Effects | None = None, solo: Receipt | None = None) -> None:
        self.done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.effects = effects
        self.solo = solo

    def failed(self, error: BaseException) -> None:
        """Tell who awaits it that it was not written."""
        if isinstance(error, asyncio.CancelledError):
            self.done.cancel()
        elif not self.done.done():
            self.done.set_exception(error)


class Committer:
    """Makes hops that end only when everything in them is written, or refused for good."""

    def __init__(
        self, backend: Backend, clock: Clock, refuse: Refuse, sealed: Callable[[], None] = lambda: None
    ) -> None:
        self._backend = backend
        self._clock = clock
        self._refuse = refuse
        self._sealed = sealed
        self.giving_up = False
        """Set by a stop whose grace is over: an absent backend is then not waited for."""

    async def hop(self, pending: list[Pending], notes: list[Note], claim: Claim | None) -> Hop:
        """Write everything, then claim.

        Raises:
            DatabaseGoneError: nobody will ever read what is written there.
            BackendError: only when giving up; what was not written stays under its leases.
        """
        wide = False
        for item in pending:
            effects = item.settlement.effects
            if effects is not NO_EFFECTS and effects.chunks:
                try:
                    await self._write_chunks(item)
                    wide = True
                except ContentRefusedError as error:
                    self._condemn(item, error)
        try:
            hop = await self._commit(pending, notes, claim)
        except ContentRefusedError as error:
            return await self._split(pending, notes, claim, error)
        for note in notes:
            if not note.done.done():
                note.done.set_result(note.solo is None or note.solo not in hop.refused)
        if wide:
            self._sealed()
        return hop

    async def _commit(self, pending: list[Pending], notes: list[Note], claim: Claim | None) -> Hop:
        batch = Batch(
            settlements=[item.settlement for item in pending],
            effects=[note.effects for note in notes if note.effects is not None],
            solo=[note.solo for note in notes if note.solo is not None],
        )
        pause = FIRST_PAUSE
        while True:
            try:
                return await self._backend.commit(batch, claim)
            except (ContentRefusedError, DatabaseGoneError):
                raise
            except BackendError as error:  # away, locked, full, read-only: nobody's task is to blame
                if self.giving_up:
                    raise
                if pause == FIRST_PAUSE:
                    log.warning("the backend cannot commit, trying on: %s", error)
                await self._clock.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)

    async def _split(
        self, pending: list[Pending], notes: list[Note], claim: Claim | None, error: ContentRefusedError
    ) -> Hop:
        """Find the culprit by halves; alone, it becomes a dead letter, or its writer is told (design 3)."""
        if len(pending) + len(notes) > 1:
            half, middle = len(pending) // 2, (len(notes) + 1) // 2
            if not pending[:half] and not notes[:middle]:
                half, middle = 1, 0
            first = await self.hop(pending[:half], notes[:middle], None)
            return _joined(first, await self.hop(pending[half:], notes[middle:], claim))
        if notes:
            notes[0].failed(error)
            return await self.hop([], [], claim)
        if not pending:
            raise error
        culprit = pending[0]
        whole = self._condemn(culprit, error)
        for effects in (whole.effects, Effects(records=whole.effects.records), NO_EFFECTS):
            culprit.settlement = whole._replace(effects=effects)
            try:
                return await self._commit([culprit], [], claim)
            except ContentRefusedError as again:
                log.error("nor does it take the dead letter of task %s: %s", whole.receipt.id, again)  # noqa: TRY400
                error = again
        raise error

    def _condemn(self, culprit: Pending, error: ContentRefusedError) -> Settlement:
        """Let a task whose ending is refused end as a dead letter."""
        log.error("the backend refuses the outcome of task %s: %s", culprit.settlement.receipt.id, error)
        if culprit.execution is None:
            raise error
        replacement = self._refuse(culprit.execution, error)
        culprit.settlement, culprit.outcome = replacement.settlement, replacement.outcome  # as events tell of it
        return culprit.settlement

    async def _write_chunks(self, item: Pending) -> None:
        """Write the chunks of a wide plan ahead of the settlement that seals it.

        Their messages are made here, a chunk at a time, and others have their turn in between: all of them would be
        more than the memory is for, and seconds in which nothing else moves.
        """
        effects = item.settlement.effects
        for start in range(0, len(effects.chunks), CHUNKS_AT_ONCE):
            made: list[Chunk] = []
            for chunk in effects.chunks[start : start + CHUNKS_AT_ONCE]:
                try:
                    made.append(chunk.whole())
                except PayloadError as error:
                    raise ContentRefusedError(str(error)) from error
                await self._clock.sleep(0)
            await self._commit([], [Note(Effects(chunks=tuple(made)))], None)
        item.settlement = item.settlement._replace(effects=effects._replace(chunks=()))


def _joined(first: Hop, second: Hop) -> Hop:
    return Hop(
        second.deliveries,
        first.refused + second.refused,
        first.closed + second.closed,
        first.duplicates + second.duplicates,
        second.next_due,
        second.cancelled,
        first.known + second.known,
    )
