"""Shard leases: a hash per stream, `{namespace}:shards:<stream>`, from shard to the rest of its row.

That is two lines of JSON: counter and owner, by which a change knows whether the row is as it was seen; and the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from json import dumps, loads

from tq.model import ShardLease
from tq.ports import Backend, ShardLeases

from .server import Argument, Server

__all__ = ["RedisShardLeases"]


class RedisShardLeases(ShardLeases):
    """Rows of one namespace, changed in one script per call."""

    name = "redis"

    def __init__(self, backend: Backend, server: Server) -> None:
        self.backend = backend
        self._server = server

    async def list(self, stream: str) -> Sequence[ShardLease]:
        flat: Sequence[bytes] = await self._server.look("shards", (stream,))
        return sorted(_lease(stream, shard, text) for shard, text in zip(flat[::2], flat[1::2], strict=True))

    async def create(self, leases: Sequence[ShardLease]) -> None:
        await self._server.write("create_shards", _arguments((*it[:2], "", _text(it)) for it in leases))

    async def swap(self, changes: Sequence[tuple[ShardLease, ShardLease]]) -> Sequence[ShardLease | None]:
        wanted = [wanted._replace(counter=seen.counter + 1) for seen, wanted in changes]
        asked = [(*seen[:2], _head(seen), _text(it)) for (seen, _), it in zip(changes, wanted, strict=True)]
        done: Sequence[int] = await self._server.write("swap_shards", _arguments(asked))
        return [lease if yes else None for lease, yes in zip(wanted, done or (), strict=True)]

    async def drop(self, leases: Sequence[ShardLease]) -> None:
        await self._server.write("drop_shards", _arguments((*it[:2], _head(it), "") for it in leases))

    async def close(self) -> None:
        """Close the backend that this is a part of; may be called twice."""
        await self.backend.close()


def _arguments(rows: Iterable[tuple[str, str, str, str]]) -> Sequence[Argument]:
    flat = [part for row in rows for part in row]
    return (len(flat) // 4, *flat)


def _text(lease: ShardLease) -> str:
    return f"{_head(lease)}{dumps([lease.parents, lease.checkpoint, lease.note], ensure_ascii=False)}"


def _head(lease: ShardLease) -> str:
    """Return how the text of a row begins that has this owner and counter."""
    return f"{dumps([lease.counter, lease.owner], ensure_ascii=False)}\n"


def _lease(stream: str, shard: bytes, text: bytes) -> ShardLease:
    head, rest = text.split(b"\n")
    counter, owner = loads(head)
    parents, checkpoint, note = loads(rest)
    return ShardLease(stream, shard.decode(), tuple(parents), owner, counter, checkpoint, note)
