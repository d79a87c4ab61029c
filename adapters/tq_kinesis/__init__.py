"""Kinesis as a broker: order per key, an acknowledgement for each task, and a store for all that a stream cannot keep.

A stream keeps bytes in order and forgets them by age. Everything else is made here, over rows that change only as
they were seen (`tq.ports.ShardLeases`): who reads which shard, up to where everything has ended, who died with what.

    TaskHandler(queue=KinesisQueue("orders", leases=redis.shards), store=redis.store, barrier=redis.barrier, …)

    values      position · note · window                a place; what a reader leaves; what was read and has not ended
                keys packing shipping                   key of a task; tasks as records; records as requests
                topology assign adaptive                which shards may be read; by whom; how much at once
    stream      driver errors stream producer           what Kinesis is asked and answers; what is written into it
    reading     hold reader leaser                      the lease on a shard; the shard; the rounds that share them out
    face        queue seen board backend settings       the port; what is known; what workers tell each other; a URL

The store owns the truth about what has run: a record that comes twice finds its outcome there. The lease row owns the
truth about how far a shard is done; only its owner moves it, and only forward. A window owns what is in between, and
may be lost with its process at any time.
"""

from .adaptive import AdaptiveSnapshot, AdaptiveStrategy, Aimd, BatchResult
from .backend import KinesisBackend, open_backend
from .queue import KinesisQueue
from .seen import ShardView
from .settings import KinesisSettings

__all__ = [
    "AdaptiveSnapshot",
    "AdaptiveStrategy",
    "Aimd",
    "BatchResult",
    "KinesisBackend",
    "KinesisQueue",
    "KinesisSettings",
    "ShardView",
    "open_backend",
]
