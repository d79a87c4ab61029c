"""MongoDB's wire protocol over mongomock: for tests of the adapter where no server can be had.

It answers what drivers ask of a standalone server. One event loop, and nothing awaited inside a command: each is one
atomic step, as a write to one document is on a real server. It keeps everything in memory, knows no transactions, no
change streams and no update pipelines, and is slow: a few hundred documents per test.

`python tests/mongo_emulator.py PORT` runs it.
"""

from __future__ import annotations

import asyncio
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, cast

import bson
import mongomock.collection
import mongomock.filtering
from pymongo.errors import OperationFailure

__all__ = ["Emulator"]

Document = dict[str, Any]

# What is known of mongomock's types is not complete.
collections = cast("Any", mongomock.collection.Collection)
fits = cast("Any", mongomock.filtering).filter_applies
looks_at_all, looks_at_unique = collections._iter_documents, collections._ensure_uniques

decoded = cast("Callable[[bytes], Document]", bson.decode)  # pyright: ignore[reportUnknownMemberType] -- as said
decoded_all = cast("Callable[[bytes], list[Document]]", bson.decode_all)  # pyright: ignore[reportUnknownMemberType] -- as above

MOST_BYTES = 16 << 20
"""Of one document."""

OP_REPLY, OP_QUERY, OP_MSG = 1, 2004, 2013
MORE_TO_COME = 2
"""Flag of a message that wants no answer."""

HELLO = {
    "helloOk": True,
    "ismaster": True,
    "isWritablePrimary": True,
    "maxBsonObjectSize": MOST_BYTES,
    "maxMessageSizeBytes": 48_000_000,
    "maxWriteBatchSize": 100_000,
    "logicalSessionTimeoutMinutes": 30,
    "minWireVersion": 0,
    "maxWireVersion": 21,
    "readOnly": False,
}


def iter_documents(collection: Any, query: Document) -> Iterator[Document]:
    """Find documents that are named by their ids without looking at all of them."""
    ids = query.get("_id")
    if isinstance(ids, dict) and list(cast("Document", ids)) == ["$in"]:
        ids = cast("Document", ids)["$in"]
    elif not isinstance(ids, str):
        yield from looks_at_all(collection, query)
        return
    for id in [ids] if isinstance(ids, str) else ids:
        if id in collection._store and fits(query, collection._store[id]):
            yield collection._store[id]


def ensure_uniques(collection: Any, document: Document) -> None:
    """Ask nothing of a document that every unique index leaves out."""
    indexes = collection._store.indexes.values()
    if any(it.get("unique") and fits(it.get("partialFilterExpression", {}), document) for it in indexes):
        looks_at_unique(collection, document)


collections._iter_documents, collections._ensure_uniques = iter_documents, ensure_uniques


class Emulator:
    """Answers commands, one after the other."""

    def __init__(self) -> None:
        self._client: Any = mongomock.MongoClient()
        self._commands: dict[str, Callable[[Document, Document], Document]] = {
            "aggregate": self._aggregate,
            "buildinfo": lambda _, __: {"version": "7.0.0-emulator", "versionArray": [7, 0, 0, 0]},
            "count": lambda _, it: {"n": self._collection(it, "count").count_documents(it.get("query", {}))},
            "createindexes": self._create_indexes,
            "delete": self._delete,
            "distinct": self._distinct,
            "drop": self._drop,
            "dropdatabase": self._drop_database,
            "endsessions": lambda _, __: {},
            "find": self._find,
            "findandmodify": self._find_and_modify,
            "hello": self._hello,
            "insert": self._insert,
            "ismaster": self._hello,
            "killcursors": lambda _, __: {},
            "listcollections": self._list_collections,
            "listindexes": self._list_indexes,
            "ping": lambda _, __: {},
            "update": self._update,
        }

    def answer(self, command: Document) -> Document:
        """Return what a server answers to this command."""
        name = next(iter(command)).lower()
        if name not in self._commands:
            return failure(59, "CommandNotFound", f"no such command: '{name}'")
        try:
            return {**self._commands[name](command, command), "ok": 1.0}
        except OperationFailure as error:
            return failure(error.code or 2, "BadValue", str(error))
        except (NotImplementedError, TypeError, ValueError) as error:
            return failure(2, "BadValue", f"{type(error).__name__}: {error}")

    def _collection(self, command: Document, verb: str) -> Any:
        return self._client[command["$db"]][command[verb]]

    def _hello(self, _: Document, __: Document) -> Document:
        return {**HELLO, "localTime": datetime.now(UTC)}

    # --- reading ------------------------------------------------------------------------------------------------------

    def _find(self, _: Document, command: Document) -> Document:
        cursor = self._collection(command, "find").find(command.get("filter", {}), command.get("projection"))
        if command.get("sort"):
            cursor = cursor.sort(list(command["sort"].items()))
        cursor = cursor.skip(command.get("skip", 0)).limit(abs(command.get("limit", 0)))
        return self._batch(command, command["find"], cursor)

    def _aggregate(self, _: Document, command: Document) -> Document:
        found = self._collection(command, "aggregate").aggregate(command["pipeline"])
        return self._batch(command, command["aggregate"], found)

    def _distinct(self, _: Document, command: Document) -> Document:
        return {"values": self._collection(command, "distinct").distinct(command["key"], command.get("query") or {})}

    @staticmethod
    def _batch(command: Document, name: str, found: Iterable[Document]) -> Document:
        """Return all of it at once: nothing here is large enough for a second batch."""
        return {"cursor": {"id": bson.Int64(0), "ns": f"{command['$db']}.{name}", "firstBatch": list(found)}}

    def _list_collections(self, _: Document, command: Document) -> Document:
        database = self._client[command["$db"]]
        rows = [{"name": name, "type": "collection"} for name in database.list_collection_names()]
        return self._batch(command, "$cmd.listCollections", rows)

    def _list_indexes(self, _: Document, command: Document) -> Document:
        found = self._collection(command, "listIndexes").index_information()
        rows = [{"name": name, **it, "key": bson.SON(it["key"])} for name, it in found.items()]
        return self._batch(command, command["listIndexes"], rows)

    # --- writing ------------------------------------------------------------------------------------------------------

    def _insert(self, _: Document, command: Document) -> Document:
        collection = self._collection(command, "insert")

        def insert(document: Document) -> Document:
            check_size(document)
            collection.insert_one(document)
            return {"n": 1}

        return self._each(command, command["documents"], insert)

    def _update(self, _: Document, command: Document) -> Document:
        collection = self._collection(command, "update")

        def update(statement: Document) -> Document:
            change, upsert = statement["u"], statement.get("upsert", False)
            if not any(name.startswith("$") for name in change):
                done = collection.replace_one(statement["q"], change, upsert=upsert)
            elif statement.get("multi"):
                done = collection.update_many(statement["q"], change, upsert=upsert)
            else:
                done = collection.update_one(statement["q"], change, upsert=upsert)
            upserted = [] if done.upserted_id is None else [done.upserted_id]
            return {"n": done.matched_count + len(upserted), "nModified": done.modified_count, "upserted": upserted}

        return self._each(command, command["updates"], update)

    def _delete(self, _: Document, command: Document) -> Document:
        collection = self._collection(command, "delete")

        def delete(statement: Document) -> Document:
            verb = collection.delete_one if statement["limit"] else collection.delete_many
            return {"n": verb(statement["q"]).deleted_count}

        return self._each(command, command["deletes"], delete)

    @staticmethod
    def _each(command: Document, statements: Iterable[Document], verb: Callable[[Document], Document]) -> Document:
        """Carry statements out one by one; what fails does not undo what was done before."""
        n = modified = 0
        upserted: list[Document] = []
        errors: list[Document] = []
        for index, statement in enumerate(statements):
            try:
                done = verb(statement)
            except OperationFailure as error:
                errors.append({"index": index, "code": error.code or 11000, "errmsg": str(error)})
                if command.get("ordered", True):
                    break
                continue
            n += done["n"]
            modified += done.get("nModified", 0)
            upserted += [{"index": index, "_id": id} for id in done.get("upserted", ())]
        answer: Document = {"n": n, "nModified": modified}
        if upserted:
            answer["upserted"] = upserted
        if errors:
            answer["writeErrors"] = errors
        return answer

    def _find_and_modify(self, _: Document, command: Document) -> Document:
        collection = self._collection(command, next(iter(command)))
        query, sort = command.get("query", {}), list(command.get("sort", {}).items()) or None
        fields = command.get("fields")
        if command.get("remove"):
            found = collection.find_one_and_delete(query, fields, sort)
        else:
            found = collection.find_one_and_update(
                query,
                command["update"],
                fields,
                sort,
                upsert=command.get("upsert", False),
                return_document=bool(command.get("new")),
            )
        return {"value": found, "lastErrorObject": {"n": int(found is not None), "updatedExisting": found is not None}}

    # --- collections --------------------------------------------------------------------------------------------------

    def _create_indexes(self, _: Document, command: Document) -> Document:
        collection = self._collection(command, "createIndexes")
        there = collection.index_information()
        for index in command["indexes"]:
            if index["name"] in there:
                continue
            options = {name: index[name] for name in ("unique", "sparse", "partialFilterExpression") if name in index}
            collection.create_index(list(index["key"].items()), name=index["name"], **options)
        return {}

    def _drop(self, _: Document, command: Document) -> Document:
        self._client[command["$db"]].drop_collection(command["drop"])
        return {}

    def _drop_database(self, _: Document, command: Document) -> Document:
        self._client.drop_database(command["$db"])
        return {}

    # --- the wire -----------------------------------------------------------------------------------------------------

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection until it is closed."""
        try:
            while True:
                length, request, _, kind = struct.unpack("<iiii", await reader.readexactly(16))
                body = await reader.readexactly(length - 16)
                if kind == OP_QUERY:
                    start = body.index(b"\0", 4) + 1 + 8  # after flags, a name, and two numbers
                    answer = bson.encode(self.answer(decoded(body[start:])))
                    head = struct.pack("<iiiiiqii", 36 + len(answer), 0, request, OP_REPLY, 8, 0, 0, 1)
                else:
                    flags, command = read_message(body)
                    answer = bson.encode(self.answer(command))
                    if flags & MORE_TO_COME:
                        continue
                    head = struct.pack("<iiiiIB", 21 + len(answer), 0, request, OP_MSG, 0, 0)
                writer.write(head + answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def read_message(body: bytes) -> tuple[int, Document]:
    """Return flags and command of an OP_MSG; documents that stand apart are put where they belong."""
    (flags,) = struct.unpack_from("<I", body)
    end = len(body) - 4 if flags & 1 else len(body)
    at = 4
    command: Document = {}
    apart: Document = {}
    while at < end:
        kind = body[at]
        (size,) = struct.unpack_from("<i", body, at + 1)
        section = body[at + 1 : at + 1 + size]
        at += 1 + size
        if kind == 0:
            command = decoded(section)
        else:
            name_end = section.index(b"\0", 4)
            apart[section[4:name_end].decode()] = decoded_all(section[name_end + 1 :])
    return flags, {**command, **apart}


def check_size(document: Document) -> None:
    """Refuse a document that is too large, as a server does."""
    if len(bson.encode(document)) > MOST_BYTES:
        raise OperationFailure("object to insert too large", 10334)


def failure(code: int, name: str, words: str) -> Document:
    """Return the answer to a command that failed."""
    return {"ok": 0.0, "code": code, "codeName": name, "errmsg": words}


async def main(port: int) -> None:
    """Serve until the process is ended."""
    server = await asyncio.start_server(Emulator().serve, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
