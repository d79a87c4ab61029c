"""The suite of `Custody`: what queues and stores have in common."""

from __future__ import annotations

from .handing import HandingOut
from .lanes import Lanes
from .lasting import Lasting
from .leasing import Leasing
from .limits import Limits
from .looking import Looking

__all__ = ["CustodyContract"]


class CustodyContract(HandingOut, Leasing, Looking, Lanes, Lasting, Limits):
    """At least once, under a lease, in order per lane."""
