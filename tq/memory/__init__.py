"""Every port inside one process: the reference implementation, and the fastest.

One table of messages is the custody that `MemoryQueue` and `MemoryStore` of one `MemoryBackend` share; its flows,
records and rows move forward in the same step. Nothing survives the process, and nothing else is given up: every
promise of a port holds here, proved by the same suites as for a server. Each part can also be made alone, to be
combined with parts of other servers.
"""

from .backend import MemoryBackend, open_backend
from .barrier import MemoryBarrier
from .immediate import ImmediateQueue
from .projections import MemoryProjections
from .queue import MemoryQueue
from .shards import MemoryShardLeases
from .store import MemoryStore

__all__ = [
    "ImmediateQueue",
    "MemoryBackend",
    "MemoryBarrier",
    "MemoryProjections",
    "MemoryQueue",
    "MemoryShardLeases",
    "MemoryStore",
    "open_backend",
]
