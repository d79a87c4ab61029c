"""The suite of `TaskStore`."""

from __future__ import annotations

from .custody import CustodyContract
from .keeping import Keeping
from .parking import Parking
from .upkeep import Upkeep

__all__ = ["StoreContract"]


class StoreContract(Parking, Keeping, Upkeep, CustodyContract):
    """Durable custody, endings, outcomes, plans and notes."""
