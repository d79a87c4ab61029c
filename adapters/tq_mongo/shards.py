"""Shard leases: a document for each shard."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tq.model import ShardLease
from tq.ports import ShardLeases

from .database import Database
from .documents import id_of_two
from .driver import DeleteOne, encode
from .errors import mapped
from .table import Document

if TYPE_CHECKING:
    from .backend import MongoBackend

__all__ = ["MongoShardLeases"]


class MongoShardLeases(ShardLeases):
    """Each change is one write of one document, where that is still as it was seen."""

    name = "mongodb"

    def __init__(self, backend: MongoBackend, database: Database) -> None:
        self.backend = backend
        self._database = database
        self._rows = database.shards

    async def list(self, stream: str) -> Sequence[ShardLease]:
        found = await self._rows.find({"stream": stream}, order=[("shard", 1)])
        return [_lease(it) for it in found]

    async def create(self, leases: Sequence[ShardLease]) -> None:
        await self._rows.insert([{"_id": _id(lease), **_fields(lease)} for lease in leases])

    async def swap(self, changes: Sequence[tuple[ShardLease, ShardLease]]) -> Sequence[ShardLease | None]:
        wanted = [it._replace(counter=seen.counter + 1) for seen, it in changes]
        with mapped(self._database.place):  # all are looked at before one is sent
            for lease in wanted:
                encode(_fields(lease))
        matched = await asyncio.gather(
            *[
                self._rows.update(_as_seen(seen), {"$set": _fields(lease)})
                for (seen, _), lease in zip(changes, wanted, strict=True)
            ]
        )
        if all(matched):
            return wanted
        missed = [_id(lease) for lease, done in zip(wanted, matched, strict=True) if not done]
        there = {it["_id"]: _lease(it) for it in await self._rows.find({"_id": {"$in": missed}})}
        return [
            lease if done or there.get(_id(lease)) == lease else None
            for lease, done in zip(wanted, matched, strict=True)
        ]

    async def drop(self, leases: Sequence[ShardLease]) -> None:
        await self._rows.write([DeleteOne(_as_seen(lease)) for lease in leases])

    async def close(self) -> None:
        """Close the backend that this is a part of; may be called twice."""
        await self.backend.close()


def _id(lease: ShardLease) -> str:
    return id_of_two(lease.stream, lease.shard)


def _as_seen(lease: ShardLease) -> dict[str, Any]:
    return {"_id": _id(lease), "owner": lease.owner, "counter": lease.counter}


def _fields(lease: ShardLease) -> Document:
    return lease._asdict() | {"parents": list(lease.parents)}


def _lease(document: Document) -> ShardLease:
    fields: Document = {name: it for name, it in document.items() if name != "_id"}
    return ShardLease(**fields)._replace(parents=tuple(document["parents"]))
