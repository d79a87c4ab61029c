"""Namespaces share a server and nothing else; what is done with leaves nothing behind."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from tests.adapters.redis_servers import raw
from tq.clock import Clock
from tq.model import Batch, Claim, Effects, Flow, Hold, Mark, Message, Rearm, Remove, Resolve, Settlement, StepStatus
from tq_redis import RedisBackend, open_backend


def message(id: str, now: float, lane: str = "") -> Message:
    return Message(id, "q", "t", b"{}", now, lane=lane)


@asynccontextmanager
async def opened(url: str, clock: Clock) -> AsyncGenerator[RedisBackend, None]:
    backend = open_backend(url, clock=clock)
    try:
        yield backend
    finally:
        await backend.close()


async def test_two_namespaces_of_one_server_do_not_see_each_other(redis_url: str, clock: Clock) -> None:
    async with opened(redis_url, clock) as one, opened(f"{redis_url}-2", clock) as other:
        await one.queue.add([message("a", clock.now())])
        assert await other.queue.add([message("a", clock.now())]) == []
        await one.queue.pause("q", paused=True)
        assert await other.queue.paused() == []
        claim = Claim(("q",), 9, "w:1", 30.0)
        assert [it.message.id for it in (await other.queue.claim(claim)).deliveries] == ["a"]
        assert (await one.queue.claim(claim)).deliveries == []


async def test_what_is_done_with_leaves_no_key_behind(redis_url: str, clock: Clock) -> None:
    """Names come and go: kinds, lanes, workers, flows. A key for each of them would fill the server in time."""
    async with opened(redis_url, clock) as backend:
        tokens = iter(range(1, 1000))

        def claim(lease: float = 30.0) -> Claim:
            number = next(tokens)
            return Claim(("q", "r"), 9, f"w{number}:{number}", lease)

        now = clock.now()
        flow = Flow(
            id="f",
            total=2,
            allowed=0,
            needed=2,
            join=message("f.join", now),
            started_at=now,
            deadline=now + 5,
            parent="d",
        )
        await backend.queue.add(
            [message("a", now, "L"), message("b", now, "L"), message("c", now)._replace(queue="r"), message("d", now)]
        )
        await backend.queue.cancel(["c"])
        await backend.commit(Batch(effects=[Effects(flows=(flow,))]))
        first = {it.message.id: it for it in (await backend.commit(Batch(), claim(1.0))).deliveries}
        await backend.commit(
            Batch(
                [
                    Settlement(first["a"].receipt, Rearm(now, 1, b"{}")),
                    Settlement(first["d"].receipt, Hold("f")),
                ],
                solo=[first["c"].receipt],
            )
        )
        await clock.sleep(2.0)  # the lease of "c" runs out
        marks = (Mark("f", 0, StepStatus.FAIL, error="no" * 99), Mark("f", 1, StepStatus.SUCCESS, result=b"x" * 99))
        await backend.commit(Batch(effects=[Effects(marks=marks, resolves=(Resolve("d", "f", Effects()),))]))
        for _ in range(9):
            hop = await backend.commit(Batch(), claim())
            await backend.commit(Batch([Settlement(it.receipt, Remove()) for it in hop.deliveries]))
        assert await backend.queue.counts() == {}
        assert backend.barrier is not None
        assert await backend.barrier.purge(clock.now() + 1, 100) == 1
        await backend.commit(Batch(), claim())
        with raw(redis_url) as client:
            names = {name.decode().partition("}:")[2] for name in client.keys(f"{backend.settings.root}:*")}
    kept = {name for name in names if not name.startswith("answer:")}
    assert kept == {"layout", "seq", "idle"}
