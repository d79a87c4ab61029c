"""The suite of `Backend`: one server, or several (`atomic`)."""

from __future__ import annotations

from .beside import Beside
from .enlisting import Enlisting
from .hopping import Hopping
from .joining import Joining

__all__ = ["BackendContract"]


class BackendContract(Hopping, Joining, Beside, Enlisting):
    """Custody, endings, flows and projections, moved forward by `commit`."""
