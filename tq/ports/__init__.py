"""The interfaces between tq and servers, named by what they guarantee.

`Custody` is kept by queues and stores alike; `Backend.commit` is the hop that a worker makes; barrier and projection
providers may be a user's own. Every adapter passes the suites in `tq.testing.contracts`, one per port.
"""

from tq.ports.backend import Backend, Keeper
from tq.ports.barrier import FlowBarrierProvider
from tq.ports.continuation import Attachment, Continuation
from tq.ports.custody import Claimed, Custody, Guarantees
from tq.ports.observer import (
    FlowLifecycleProvider,
    NotificationProvider,
    QueueLifecycleProvider,
    TaskLifecycleProvider,
    WorkerLifecycleProvider,
)
from tq.ports.projection import EntityProjectionProvider, ProjectionQuery
from tq.ports.queue import MessageQueue
from tq.ports.shards import ShardLeases, ShardListener
from tq.ports.store import OutcomeKey, Stored, TaskStore

__all__ = [
    "Attachment",
    "Backend",
    "Claimed",
    "Continuation",
    "Custody",
    "EntityProjectionProvider",
    "FlowBarrierProvider",
    "FlowLifecycleProvider",
    "Guarantees",
    "Keeper",
    "MessageQueue",
    "NotificationProvider",
    "OutcomeKey",
    "ProjectionQuery",
    "QueueLifecycleProvider",
    "ShardLeases",
    "ShardListener",
    "Stored",
    "TaskLifecycleProvider",
    "TaskStore",
    "WorkerLifecycleProvider",
]
