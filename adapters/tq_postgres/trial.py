"""What a commit tries to write: a batch, sorted by what is to be done, without what the server has named so far."""

from __future__ import annotations

from collections.abc import Sequence

from tq.model import NO_EFFECTS, Batch, Effects, Hold, Rearm, Receipt, Remove, Resolve, Settlement

from .shapes import named

__all__ = ["Trial"]


class Trial:
    """A batch and what was left out of it."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        first: dict[Receipt, Settlement] = {}
        self.lost: list[Receipt] = []
        """Settlements, and deliveries about to run alone, that have lost their lease."""
        for settlement in batch.settlements:
            if first.setdefault(settlement[0], settlement) is not settlement:
                self.lost.append(settlement[0])  # whoever settles a delivery a second time has lost it
        self.known: list[str] = []
        """Flows that are there already: nothing of a second start is written, for its members may have run."""
        self.solo = list(dict.fromkeys(batch.solo))
        self._settlements = list(first.values())
        self._unheld: set[tuple[str, str]] = set()
        self._sort()

    @property
    def effects(self) -> list[Effects]:
        return self.fenced + self.free

    def leave_out(self, what: str, places: Sequence[int]) -> None:
        """Leave out what the server has named."""
        match what:
            case "solo":
                lost = named(places, self.solo)
                self.lost += lost
                self.solo = [receipt for receipt in self.solo if receipt not in lost]
            case "remove":
                self._lose(named(places, self.removes))
            case "rearm":
                self._lose([receipt for receipt, _ in named(places, self.rearms)])
            case "hold":
                self._lose([receipt for receipt, _ in named(places, self.holds)])
            case "resolve":
                self._unheld.update((task_id, flow_id) for task_id, flow_id, _ in named(places, self.resolves))
            case _:
                self.known += [flow.id for flow in named(places, [flow for it in self.effects for flow in it.flows])]
        self._sort()

    def _lose(self, receipts: Sequence[Receipt]) -> None:
        self.lost += receipts
        gone = set(receipts)
        self._settlements = [it for it in self._settlements if it[0] not in gone]

    def _sort(self) -> None:
        self.removes: list[Receipt] = []
        self.rearms: list[tuple[Receipt, Rearm]] = []
        self.holds: list[tuple[Receipt, Hold]] = []
        for receipt, ending, _, _, _ in sorted(self._settlements, key=_receipt):  # in the order of their keys
            if isinstance(ending, Remove):
                self.removes.append(receipt)
            elif isinstance(ending, Rearm):
                self.rearms.append((receipt, ending))
            else:
                self.holds.append((receipt, ending))
        self.free = [*self._batch.effects]
        """Effects behind which no lease stands."""
        self.fenced = [it[2] for it in self._settlements if it[2] is not NO_EFFECTS]
        """Effects behind which a lease, or a hold, stands."""
        self._unfold_resolves()
        if self.known:
            self.fenced = [it.without_flows(self.known) for it in self.fenced]
            self.free = [it.without_flows(self.known) for it in self.free]

    def _unfold_resolves(self) -> None:
        """Gather the ends of held tasks, and what they bring: that may end others."""
        found: dict[tuple[str, str], Resolve] = {}
        todo = [resolve for it in self.effects for resolve in it.resolves]
        while todo:
            more: list[Resolve] = []
            for resolve in todo:
                key = (resolve.task_id, resolve.flow_id)
                if key not in found and key not in self._unheld:
                    found[key] = resolve
                    self.fenced.append(resolve.effects)
                    more += resolve.effects.resolves
            todo = more
        self.resolves = [found[key] for key in sorted(found)]


def _receipt(settlement: Settlement) -> Receipt:
    return settlement[0]
