"""Every port of tq inside one SQLite file: the durable default, without a server.

The file owns the truth about everything given to it: messages and leases, endings, flows, projections. All of it is
written by one thread per backend, a whole transaction per hop; several processes may share the file.

    parts       queue · store · barrier · provider · shards   thin: a verb is one transaction
    commit      one batch in one transaction           composed of the functions below
    functions   messages waiting leases claims · records outcomes chunks notes · flows marks · projections · workers
    ground      database connection schema rows errors settings
"""

from .backend import SqliteBackend, open_backend
from .barrier import SqliteBarrier
from .provider import SqliteProjections
from .queue import SqliteQueue
from .settings import SqliteSettings
from .shards import SqliteShardLeases
from .store import SqliteStore

__all__ = [
    "SqliteBackend",
    "SqliteBarrier",
    "SqliteProjections",
    "SqliteQueue",
    "SqliteSettings",
    "SqliteShardLeases",
    "SqliteStore",
    "open_backend",
]
