"""The collections, their indexes, and whose they are.

{namespace}_tasks        one document per task: while it is live, and while its ending is kept
{namespace}_parts        what is too large for the document of an ending that is being carried out
{namespace}_flows        one document per flow, small whatever the flow brings
{namespace}_results      what members of flows have brought
{namespace}_projections  status rows, for anybody to read
{namespace}_outcomes     endings across servers; {namespace}_chunks, plans; {namespace}_notes, the outbox
{namespace}_workers      who serves which queue; {namespace}_shards, who reads which shard of a stream
{namespace}_meta         the layout's number, paused queues, counters
"""

from __future__ import annotations

import inspect
from contextlib import suppress
from typing import Any

from tq.errors import ForeignDatabaseError

from .driver import IndexModel, exceptions
from .settings import MongoSettings

__all__ = ["LAYOUT", "Schema"]

LAYOUT = 1
"""How documents are laid out; stands in every namespace."""

DAY = 86_400

Index = tuple[str, dict[str, int], dict[str, Any]]


def _where(**fields: object) -> dict[str, Any]:
    return {"partialFilterExpression": fields}


_THERE = {"$exists": True}

INDEXES: dict[str, tuple[Index, ...]] = {
    "tasks": (
        # The claim, by queue, or by queue and type where a worker has too few slots for one of them.
        ("waiting", {"state": 1, "queue": 1, "due": 1, "seq": 1}, _where(state="waiting")),
        ("kinds", {"state": 1, "queue": 1, "type": 1, "due": 1, "seq": 1}, _where(state="waiting")),
        ("leases", {"queue": 1, "until": 1}, _where(until=_THERE)),
        ("cancelled", {"token": 1}, _where(cancelled=True)),
        ("live", {"live": 1, "_id": 1}, _where(live=True)),
        # A lane has one turn: whoever takes it while another has it is refused by the server.
        ("turns", {"turn": 1}, {"unique": True, **_where(turn=_THERE)}),
        ("lanes", {"lane": 1, "number": 1}, _where(lane=_THERE)),
        ("behind", {"state": 1}, _where(state="behind")),
        ("born", {"born": 1}, _where(born=_THERE)),
        ("records", {"record.at": -1, "_id": -1}, _where(record=_THERE)),
        ("expiring", {"record.expires_at": 1}, _where(record=_THERE)),
        # `purge` drops what has expired. This does it a day later where no worker runs; only finished tasks have it.
        ("finished", {"expires": 1}, {"expireAfterSeconds": DAY, **_where(state="ended")}),
    ),
    "parts": (("entry", {"entry": 1}, {}),),
    "flows": (
        ("due", {"due": 1}, _where(due=_THERE)),
        ("open", {"open": 1, "_id": 1}, _where(open=True)),
        ("newest", {"started_at": -1, "_id": -1}, {}),
        ("closed", {"closed_at": 1}, _where(confirmed=True)),
    ),
    "results": (("members", {"flow": 1, "index": 1, "generation": 1}, {}),),
    "projections": (
        ("newest", {"updated_at": -1, "_id": -1}, {}),
        ("entity", {"entity_type": 1, "entity_id": 1, "updated_at": -1, "_id": -1}, {}),
    ),
    "outcomes": (
        ("old", {"at": 1}, _where(carried=True)),
        ("uncarried", {"carried": 1, "_id": 1}, _where(carried=False)),
    ),
    "chunks": (("old", {"at": 1}, {}),),
    "notes": (("topic", {"topic": 1, "seq": 1}, {}),),
    "workers": (("until", {"until": 1}, {}),),
    "shards": (("stream", {"stream": 1, "shard": 1}, {}),),
}


class Schema:
    """Makes the collections of a namespace, or finds that they are ours."""

    def __init__(self, settings: MongoSettings) -> None:
        self._settings = settings
        self._where = f"the namespace {settings.namespace!r} of {settings.place}"

    def name(self, table: str) -> str:
        """Return the name of a collection."""
        return f"{self._settings.namespace}_{table}"

    async def prepare(self, database: Any) -> None:
        """Look whose the collections are, and make what is missing.

        Raises:
            ForeignDatabaseError: they are another program's, or a newer tq's; they were not touched.
        """
        meta = database[self.name("meta")]
        layout = await meta.find_one({"_id": "layout"})
        if layout is None:
            layout = await self._take(database, meta)
        if not isinstance(layout.get("number"), int):
            raise self._foreign()
        if layout["number"] > LAYOUT:
            raise ForeignDatabaseError(
                f"{self._where} was made by a newer tq: its layout is {layout['number']}, this one knows {LAYOUT}; "
                f"upgrade tq"
            )
        if not layout.get("made"):
            for table, indexes in INDEXES.items():
                models = [IndexModel(list(keys.items()), name=name, **options) for name, keys, options in indexes]
                await database[self.name(table)].create_indexes(models)
            await meta.update_one({"_id": "layout"}, {"$set": {"made": True}})

    async def _take(self, database: Any, meta: Any) -> dict[str, Any]:
        """Write our name into a namespace that has none; another process may do so at the same time."""
        names = database.list_collection_names()
        there = set(await names if inspect.isawaitable(names) else names)
        first = {"_id": "layout", "number": LAYOUT}
        if not there & {self.name(table) for table in (*INDEXES, "meta")}:
            with suppress(exceptions.DuplicateKeyError):
                await meta.insert_one(first)
        layout: dict[str, Any] | None = await meta.find_one({"_id": "layout"})
        if layout is None:
            raise self._foreign()
        return layout

    def _foreign(self) -> ForeignDatabaseError:
        return ForeignDatabaseError(f"{self._where} belongs to another program; give another namespace=")
