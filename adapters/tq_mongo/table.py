"""What is used of a collection, alike on both drivers: each verb is one command, or one per kind of write."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from .driver import DeleteMany, DeleteOne, InsertOne, ReturnDocument, UpdateMany, UpdateOne, exceptions
from .errors import DUPLICATE

__all__ = ["Document", "Runs", "Table", "Write", "Written"]

T = TypeVar("T")

Document = dict[str, Any]
Write = InsertOne[Document] | UpdateOne | UpdateMany | DeleteOne | DeleteMany
Order = Sequence[tuple[str, int]]


class Runs(Protocol):
    """Who sends commands."""

    def run(self, work: Callable[[Any], Coroutine[Any, Any, T]], /) -> Coroutine[Any, Any, T]:
        """Give the driver's database to `work`, and return what that returns."""
        ...

    def pause(self, delay: float, /) -> Coroutine[Any, Any, None]:
        """Wait a little, so that others come first."""
        ...


class Written(NamedTuple):
    """What became of writes that were sent together."""

    matched: int
    deleted: int
    taken: frozenset[int] = frozenset()
    """Places of those writes whose unique key was taken."""


class Table:
    """One collection. Many writes are sent together, unordered: each is atomic, the whole of them is not."""

    def __init__(self, database: Runs, name: str) -> None:
        self.name = name
        self._database = database
        self.pause = database.pause

    async def find(
        self,
        query: Mapping[str, Any],
        *,
        fields: Mapping[str, Any] | None = None,
        order: Order | None = None,
        limit: int = 0,
    ) -> list[Document]:
        """Return documents."""

        async def look(database: Any) -> list[Document]:
            cursor = database[self.name].find(query, fields)
            if order:
                cursor = cursor.sort(list(order))
            if limit:
                cursor = cursor.limit(limit)
            found: list[Document] = await cursor.to_list(None)
            return found

        return await self._database.run(look)

    async def one(self, id: str) -> Document | None:
        """Return a document by its id."""
        found = await self.find({"_id": id}, limit=1)
        return found[0] if found else None

    async def distinct(self, field: str, query: Mapping[str, Any]) -> list[Any]:
        """Return the values that a field has."""

        async def look(database: Any) -> list[Any]:
            found: list[Any] = await database[self.name].distinct(field, query)
            return found

        return await self._database.run(look)

    async def count(self, query: Mapping[str, Any]) -> int:
        """Count documents."""

        async def look(database: Any) -> int:
            found: int = await database[self.name].count_documents(query)
            return found

        return await self._database.run(look)

    async def grouped(self, query: Mapping[str, Any], key: Mapping[str, Any]) -> list[tuple[Document, int]]:
        """Count documents by the values of a key."""

        async def look(database: Any) -> list[tuple[Document, int]]:
            cursor = database[self.name].aggregate([{"$match": query}, {"$group": {"_id": key, "n": {"$sum": 1}}}])
            if inspect.isawaitable(cursor):
                cursor = await cursor
            return [(row["_id"], row["n"]) for row in await cursor.to_list(None)]

        return await self._database.run(look)

    async def insert(self, documents: Sequence[Document]) -> list[int]:
        """Insert what is new; return the places of those whose key was taken."""
        if not documents:
            return []

        async def write(database: Any) -> list[int]:
            try:
                await database[self.name].insert_many(documents, ordered=False)
            except exceptions.BulkWriteError as error:
                return sorted(taken_in(error))
            return []

        return await self._database.run(write)

    async def write(self, writes: Sequence[Write]) -> Written:
        """Make many writes."""
        if not writes:
            return Written(0, 0)

        async def write(database: Any) -> Written:
            try:
                done = await database[self.name].bulk_write(list(writes), ordered=False)
            except exceptions.BulkWriteError as error:
                taken = frozenset(taken_in(error))
                return Written(error.details["nMatched"], error.details["nRemoved"], taken)
            return Written(done.matched_count, done.deleted_count)

        return await self._database.run(write)

    async def update(self, query: Mapping[str, Any], change: Mapping[str, Any]) -> int:
        """Change every document that fits; return how many did."""

        async def write(database: Any) -> int:
            done = await database[self.name].update_many(query, change)
            matched: int = done.matched_count
            return matched

        return await self._database.run(write)

    async def delete(self, query: Mapping[str, Any]) -> int:
        """Delete every document that fits; return how many did."""

        async def write(database: Any) -> int:
            done = await database[self.name].delete_many(query)
            deleted: int = done.deleted_count
            return deleted

        return await self._database.run(write)

    async def reserve(self, id: str, number: int) -> int:
        """Take so many numbers of a counter; return the first."""

        async def write(database: Any) -> int:
            counter = await database[self.name].find_one_and_update(
                {"_id": id}, {"$inc": {"n": number}}, upsert=True, return_document=ReturnDocument.AFTER
            )
            first: int = counter["n"] - number + 1
            return first

        return await self._database.run(write)


def taken_in(error: exceptions.BulkWriteError) -> list[int]:
    """Return the places of writes whose unique key was taken; where anything else went wrong, raise it."""
    errors = error.details["writeErrors"]
    if error.details["writeConcernErrors"] or any(it["code"] != DUPLICATE for it in errors):
        raise error
    return [it["index"] for it in errors]
