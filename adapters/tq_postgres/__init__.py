"""Every port of tq inside one PostgreSQL database: for workers on several machines, and for programs that have one.

The database owns the truth about everything given to it: messages and leases, endings, flows, projections. A hop is one
statement, and so one transaction and one round trip: it calls functions of ours, which the schema brings along.

    parts       queue · store · barrier · provider · shards   thin: a verb is one call of a function
    commit      trial statement                        one batch as one statement, without what it cannot carry out
    guest                                              the same inside a transaction of the user's own
    sql/        tables · messages leases claims · flows endings · shards sharing     what is done, and why it is safe
    beside      listener keeper sweeper                waking, renewing, sweeping up
    ground      database connection schema shapes errors settings
"""

from importlib.util import find_spec

from tq.errors import MissingExtraError

if find_spec("asyncpg") is None:
    raise MissingExtraError("postgres")

from .backend import PostgresBackend, open_backend
from .barrier import PostgresBarrier
from .provider import PostgresProjections
from .queue import PostgresQueue
from .settings import PostgresSettings
from .shards import PostgresShardLeases
from .store import PostgresStore

__all__ = [
    "PostgresBackend",
    "PostgresBarrier",
    "PostgresProjections",
    "PostgresQueue",
    "PostgresSettings",
    "PostgresShardLeases",
    "PostgresStore",
    "open_backend",
]
