"""The flow barrier: the one place that decides when, and how, a flow is over."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Protocol

from tq.model import Flow, FlowState, Mark, Reopen, StepResult, Verdict

__all__ = ["FlowBarrierProvider"]


class FlowBarrierProvider(Protocol):
    """Decides each flow once per generation, with every member counted once; atomic across processes (BAR-09).

    The set of recorded members is the truth: counts change only by members newly recorded, in the same atomic step, and
    the verdict is `tq.model.decide` of the counts after the whole step. An open flow never expires; a closed one is
    remembered until `purge`.

    Raises (every verb): BackendUnavailableError, after which the same call may be made again.
    """

    @abstractmethod
    async def init_barrier(self, flows: Sequence[Flow]) -> list[FlowState]:
        """Store each flow unless its id is there; return the state of each, in order. Never resets (BAR-01).

        A flow of no members is closed, as completed, by this very call.
        """

    @abstractmethod
    async def batch_decrement_and_check(self, marks: Sequence[Mark]) -> list[FlowState]:
        """Record unseen members of open flows, decide, and return the state of each flow named that is known.

        First record of a member wins (BAR-03). A flow that is closed, or unknown, records nothing (D-48); a success
        that comes after the verdict is kept beside, for `reopen`: that work is done, and no result tells of it before.
        `FlowState.answer` is 0 to every caller from the verdict until `confirm_join`.
        """

    @abstractmethod
    async def mark_aborted(self, flow_id: str, verdict: Verdict, reason: str = "") -> FlowState | None:
        """Close an open flow by cancel or deadline; a closed one stays as it is (D-43). None if unknown.

        The caller whose call closed the flow sees `verdict` and `reason` in the state like everybody after it.
        """

    @abstractmethod
    async def confirm_join(self, joins: Sequence[tuple[str, int]]) -> None:
        """Note, by (flow id, generation), that the join is on its way for good."""

    @abstractmethod
    async def reopen(self, reopen: Reopen) -> list[int] | None:
        """Open the next generation; return the indexes that are missing again, or None if it was not possible.

        Missing are those that did not succeed, before the verdict or after it.
        """

    @abstractmethod
    async def get(self, flow_ids: Sequence[str]) -> dict[str, FlowState]:
        """Return the states of the flows that are known."""

    @abstractmethod
    async def get_step_results(self, flow_id: str, after: int = -1, limit: int = 1000) -> Sequence[StepResult]:
        """Return recorded members with a larger index than `after`, by index (BAR-05)."""

    @abstractmethod
    async def list(
        self, *, active: bool | None = None, after: tuple[float, str] | None = None, limit: int = 100
    ) -> Sequence[FlowState]:
        """Return flows, newest first by (started_at, id); `after` is that pair of the last one seen."""

    @abstractmethod
    async def due(self, now: float, limit: int) -> Sequence[FlowState]:
        """Return flows that something must be done for.

        Their deadline has passed, or they are closed and unconfirmed, or their plan is not yet spread, or siblings are
        to be cancelled (`cancel_siblings` or a cancelled verdict, and not tidied).
        """

    @abstractmethod
    async def quiet(self, since: float, after: str, limit: int) -> Sequence[FlowState]:
        """Return open flows opened before `since`, by id, those after `after`: what a reconciler looks over."""

    @abstractmethod
    async def advance(self, flow_id: str, *, spread: int | None = None, tidied: bool | None = None) -> None:
        """Note how far spreading has come (never back), or that nothing is left to tidy up."""

    @abstractmethod
    async def purge(self, before: float, limit: int) -> int:
        """Drop confirmed, closed flows that closed before this instant, members included; return how many."""
