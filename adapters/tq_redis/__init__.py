"""Every port of tq on one Redis server, or one slot of a cluster: fast, and as durable as the server is set to be.

The server owns the truth about everything given to it: messages and leases, endings, flows, projections. A verb is one
Lua script, and so is a whole commit: it looks at everything first and then writes what cannot fail any more. Due times
and leases go by the server's own clock.

    parts       queue · store · barrier · provider · shards      thin: a verb is one script
    hop         commit claims                             a batch and a claim as arguments, the answer as values
    wire        server scripts lua/ · packing             one script, sent once; values as bytes
    waking      bell                                      tells workers of other processes that something was added
    ground      check errors settings                     what is found at the first look, and what goes wrong

Every key begins with "{namespace}:", so that a namespace has one node of a cluster to itself; one scales by namespaces.
"""

from .backend import RedisBackend, open_backend
from .barrier import RedisBarrier
from .provider import RedisProjections
from .queue import RedisQueue
from .settings import RedisSettings
from .shards import RedisShardLeases
from .store import RedisStore

__all__ = [
    "RedisBackend",
    "RedisBarrier",
    "RedisProjections",
    "RedisQueue",
    "RedisSettings",
    "RedisShardLeases",
    "RedisStore",
    "open_backend",
]
