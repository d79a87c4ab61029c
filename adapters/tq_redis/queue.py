"""The verbs of custody, and the message queue: each is one script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tq.model import Claim, Message, Place, Rearm, Receipt, Renewal, State, Whereabouts
from tq.ports import Backend, Claimed, Custody, Guarantees, MessageQueue

from .arguments import as_number, counted, message_arguments, read_receipts, rearm_arguments, texts
from .claims import claim_arguments, read_claimed
from .packing import pack_parts, unpack_parts
from .server import Argument, Server

__all__ = ["RedisCustody", "RedisQueue", "receipts_of", "renew"]

_COUNTED = ("waiting", "delayed", "running", "held")


def receipts_of(receipts: Sequence[Receipt]) -> list[Argument]:
    """Return receipts: how many, then ids and tokens by turns."""
    return [len(receipts), *(part for receipt in receipts for part in receipt)]


async def renew(server: Server, receipts: Sequence[Receipt], lease: float) -> Renewal:
    """Let leases run on from now; tell which were lost and which are to be cancelled."""
    lost, cancelled = await server.write("renew", (as_number(lease), *receipts_of(receipts)))
    return Renewal(tuple(read_receipts(lost)), tuple(read_receipts(cancelled)))


class RedisCustody(Custody):
    """What queue and store have in common: the same messages serve both."""

    name = "redis"
    place: Place
    guarantees = Guarantees()

    def __init__(self, backend: Backend, server: Server) -> None:
        self.backend = backend
        """The server that this is a part of: parts of one backend are written in one script."""
        self._server = server

    async def add(self, messages: Sequence[Message]) -> list[str]:
        def arguments() -> Any:
            yield len(messages)
            yield from message_arguments(messages)

        return texts(await self._server.write("add", arguments())) if messages else []

    async def claim(self, claim: Claim) -> Claimed:
        call = self._server.next_call()
        try:
            answer = await self._server.write_once("claim", claim_arguments(claim), call)
        finally:
            self._server.give_back(call)
        return read_claimed(claim.token, answer.claimed, self.place)

    async def ack(self, receipts: Sequence[Receipt]) -> list[Receipt]:
        return read_receipts(await self._server.write("ack", receipts_of(receipts)))

    async def rearm(self, rearms: Sequence[tuple[Receipt, Rearm]]) -> list[Receipt]:
        def arguments() -> Any:
            yield len(rearms)
            for receipt, again in rearms:
                yield from rearm_arguments(receipt, again)

        return read_receipts(await self._server.write("rearm", arguments()))

    async def solo(self, receipts: Sequence[Receipt]) -> list[Receipt]:
        return read_receipts(await self._server.write("solo", receipts_of(receipts)))

    async def renew(self, receipts: Sequence[Receipt], lease: float) -> Renewal:
        return await renew(self._server, receipts, lease)

    async def cancel(self, ids: Sequence[str]) -> list[str]:
        return texts(await self._server.write("cancel", counted(ids)))

    async def locate(self, ids: Sequence[str]) -> dict[str, Whereabouts]:
        found = [self._whereabouts(*row) for row in await self._server.look("locate", counted(ids))]
        return {where.id: where for where in found}

    async def list(self, queue: str | None, after: str, limit: int) -> Sequence[Whereabouts]:
        found: list[Whereabouts] = []
        while len(found) < limit:
            # As many as are wanted are looked at in one go; of one queue there may be fewer among them.
            rows, last = await self._server.look("list", (queue or "", after, limit))
            found += [self._whereabouts(*row) for row in rows]
            if not last:
                break
            after = last.decode()
        return found[:limit]

    def _whereabouts(
        self,
        id: bytes,
        queue: bytes,
        type: bytes,
        run_at: bytes,
        generation: int,
        attempt: int,
        until: bytes,
        token: bytes,
        crashes: int,
        held_by: bytes,
        cancelled: int,
        stats: bytes,
    ) -> Whereabouts:
        return Whereabouts(
            id.decode(),
            queue.decode(),
            type.decode(),
            State.RUNNING if token else State.HELD if held_by else State.WAITING,
            float(run_at),
            generation,
            attempt,
            float(until) if until else 0.0,
            token.decode(),
            crashes,
            held_by.decode(),
            cancelled == 1,
            stats,
            self.place,
        )

    async def counts(self) -> Mapping[str, Mapping[str, int]]:
        rows = await self._server.look("counts")
        return {queue.decode(): dict(zip(_COUNTED, numbers, strict=True)) for queue, *numbers in rows}

    async def pause(self, queue: str, paused: bool) -> None:  # noqa: FBT001 -- as the port says it
        await self._server.write("pause", (queue, int(paused)))

    async def paused(self) -> Sequence[str]:
        return sorted(texts(await self._server.look("paused")))

    async def close(self) -> None:
        await self.backend.close()


class RedisQueue(RedisCustody, MessageQueue):
    """At-least-once; handed out in order of due time, then of adding; of a lane one at a time."""

    place = Place.QUEUE

    async def announce(self, worker: str, queues: Sequence[str], ttl: float) -> None:
        def arguments() -> Any:
            yield from (worker, as_number(ttl), pack_parts(queue.encode() for queue in queues))

        await self._server.write("announce", arguments())

    async def announced(self) -> Sequence[str]:
        served = await self._server.look("announced")
        return sorted({queue for packed in served for queue in texts(unpack_parts(packed))})
