"""Every port of tq on one MongoDB database: a standalone server is enough.

The server owns the truth about everything given to it. Each write to one document is atomic, and more than that is not
promised by a standalone server. So a task is one document, live or ended; a flow is one document, with its members; and
an ending that brings more is first written, whole, into the document of its task, and then carried out, by whoever
lives to do it. Due times and leases go by the server's own clock.

    parts       queue · store · barrier · provider · shards      thin: what the ports promise
    hop         commit journal carry endings claims       what is one write, what is written down first, what is due
    documents   documents changes · flows marks           a task and a flow: pure; and what members brought
                records ledger lanes leases               endings kept; outcomes, plans, notes; order; receipts
    ground      database table swap client schema wire    commands, changes that nobody overtakes, collections, bytes
                errors settings bell driver

Both drivers serve: PyMongo's `AsyncMongoClient`, which `open` uses, and Motor's client. Of a replica set neither change
streams nor transactions are used.
"""

from .backend import MongoBackend, open_backend
from .barrier import MongoBarrier
from .provider import MongoProjections
from .queue import MongoQueue
from .settings import MongoSettings
from .shards import MongoShardLeases
from .store import MongoStore

__all__ = [
    "MongoBackend",
    "MongoBarrier",
    "MongoProjections",
    "MongoQueue",
    "MongoSettings",
    "MongoShardLeases",
    "MongoStore",
    "open_backend",
]
