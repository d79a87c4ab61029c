"""One public suite per port: memory, every adapter that tq ships, and yours pass the same ones.

An adapter's tests are one class per port. It says how the port is opened over fresh data, and, where something outlives
the process, how the same data is opened once more, beside the first opening or after it was closed:

    class TestMyQueue(QueueContract):
        @asynccontextmanager
        async def open(self, clock: Clock) -> AsyncGenerator[MessageQueue]:
            queue = await MyQueue.open(fresh_address(), clock=clock)
            try:
                yield queue
            finally:
                await queue.close()

        @asynccontextmanager
        async def reopen(self, port: Custody, clock: Clock) -> AsyncGenerator[MessageQueue]:
            queue = await MyQueue.open(port.address, clock=clock)
            ...

`reopen` is entered while `port` is open, or after it was closed: it must not look at the state of `port`, only at where
its data lives. Fixtures that a class needs (such as `tmp_path`) are kept by an autouse fixture.

The tests need the pytest plugin `tq.testing.plugin`, which runs them in virtual time. A server with a clock of its own
cannot follow: mark such a class `realtime` and give it a short `beat` (0.3 seconds, say); whatever a suite waits for is
a few beats. Text that the server refuses is named by `refused`.
"""

from .backend import BackendContract
from .barrier import BarrierContract
from .custody import CustodyContract
from .projection import ProjectionContract
from .queue import QueueContract
from .shards import ShardLeasesContract
from .store import StoreContract
from .suite import Suite

__all__ = [
    "BackendContract",
    "BarrierContract",
    "CustodyContract",
    "ProjectionContract",
    "QueueContract",
    "ShardLeasesContract",
    "StoreContract",
    "Suite",
]
