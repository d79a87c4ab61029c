"""What a task library breaks by a slip of the hand, and the fewest tests that must see it. Started by `mutations.py`.

Each mutant is one way to lose something, to do it twice, or too early. The text that it replaces must stand in its file
just once: where the code has moved on, its mutant has to move along.
"""

from .custody import CUSTODY, SEVERAL_SERVERS
from .flows import FLOWS, RECONCILING
from .mutant import Mutant
from .rows import PROJECTIONS
from .servers import SERVERS
from .streams import STREAMS

__all__ = ["MUTANTS", "Mutant"]

MUTANTS = (*CUSTODY, *SEVERAL_SERVERS, *FLOWS, *RECONCILING, *PROJECTIONS, *SERVERS, *STREAMS)
