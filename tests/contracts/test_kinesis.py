"""The Kinesis queue passes the suite of queues, as far as it declares to."""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from tests.adapters.kinesis_double import KinesisDouble
from tq.clock import Clock
from tq.memory import MemoryShardLeases
from tq.ports import Custody, MessageQueue
from tq.testing.contracts import QueueContract
from tq_kinesis import Aimd, KinesisQueue


class TestKinesisQueue(QueueContract):
    double: KinesisDouble
    leases: MemoryShardLeases

    @asynccontextmanager
    async def open(self, clock: Clock) -> AsyncGenerator[MessageQueue, None]:
        self.double, self.leases = KinesisDouble(clock), MemoryShardLeases(clock=clock)
        async with self.opened(clock) as queue:
            yield queue

    @asynccontextmanager
    async def opened(self, clock: Clock) -> AsyncGenerator[MessageQueue, None]:
        strategy = Aimd(clock, min_batch=500, base_delay=0.0)
        queue = KinesisQueue("stream", leases=self.leases, client=self.double, clock=clock, strategy=strategy)
        try:
            yield queue
        finally:
            await queue.close()

    def reopen(self, port: Custody, clock: Clock) -> AbstractAsyncContextManager[MessageQueue]:
        return self.opened(clock)
