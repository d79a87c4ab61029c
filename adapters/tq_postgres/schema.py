"""The tables and functions: their names, how they are recognised as ours, and how older ones are brought forward.

In the files of `sql/` every name of ours begins with `tq_`. Where they are used, that prefix becomes the schema and the
namespace that the settings ask for: `tq_messages` is `"public"."tq_messages"`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import blake2b
from importlib.resources import files
from uuid import UUID

import asyncpg

from tq.errors import ForeignDatabaseError

from .connection import Lent
from .settings import PostgresSettings

__all__ = ["MIGRATIONS", "Schema"]

MIGRATIONS = ("tables", "shards", "uncarried")
"""Files that lead from version n to n + 1. Never edited, only grown; a change of a function alone is a file, too."""

FUNCTIONS = ("endings", "messages", "leases", "claims", "flows", "sharing")
"""Files of the functions as the latest version has them; they replace those of an older one as a whole."""

PLANS = " ".join(
    f"SET {setting} = off"
    for setting in ("jit", "enable_seqscan", "enable_bitmapscan", "enable_hashjoin", "enable_mergejoin")
)
"""Statements inside our functions go by an index, whatever the server believes of our tables."""

_OURS = re.compile(r"\btq_(\w+)")
_MADE = re.compile(r"CREATE (TABLE|SEQUENCE|FUNCTION) tq_(\w+)")

_META = "CREATE TABLE tq_schema (program text NOT NULL, version int NOT NULL, instance uuid NOT NULL)"


class Schema:
    """Names what is ours in one schema of one database, and brings it forward."""

    def __init__(self, settings: PostgresSettings) -> None:
        self.place = settings.place
        self.schema = settings.schema
        self.namespace = settings.namespace
        self.instance: UUID | None = None
        """Tells this database from any other one, once it was opened."""
        key = blake2b(f"{self.schema}\0{self.namespace}".encode(), digest_size=8)
        self.channel = f"tq-{key.hexdigest()}"
        """Where changes are told of."""
        self._lock = int.from_bytes(key.digest(), signed=True)
        self._texts: dict[str, str] = {}

    def sql(self, text: str) -> str:
        """Return a statement with the names that it has here."""
        found = self._texts.get(text)
        if found is None:
            found = self._texts[text] = _OURS.sub(lambda match: self.name(match[1]), text)
        return found

    def name(self, name: str) -> str:
        """Return the full name of a table or function."""
        return f'{self._quoted}."{self.namespace}_{name}"'

    @property
    def _quoted(self) -> str:
        return '"' + self.schema.replace('"', '""') + '"'

    async def migrate(self, connection: Lent) -> None:
        """Bring the schema forward, in one transaction; of several processes that open at once one does it.

        Raises:
            ForeignDatabaseError: a newer version of tq, or another program, made the tables.
        """
        if await self._version(connection) == len(MIGRATIONS):
            return
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", self._lock)
            version = await self._version(connection)  # another process may have been faster
            if version == len(MIGRATIONS):
                return
            if not await connection.fetch("SELECT FROM pg_namespace WHERE nspname = $1", self.schema):
                await connection.execute(f"CREATE SCHEMA {self._quoted}")
            if not version:
                await self._refuse_foreign(connection)
                await connection.execute(self.sql(_META))
                await connection.execute(self.sql("INSERT INTO tq_schema VALUES ('tq', 0, gen_random_uuid())"))
            await self._drop_functions(connection)
            for name in (*MIGRATIONS[version:], *FUNCTIONS):
                await connection.execute(self._file(name))
            await connection.execute(self.sql("UPDATE tq_schema SET version = $1"), len(MIGRATIONS))
            await self._version(connection)

    def _file(self, name: str) -> str:
        return self.sql(read(name).replace(":plans", PLANS).replace(":channel", f"'{self.channel}'"))

    async def _version(self, connection: Lent) -> int:
        if not await self._there(connection, ["schema"]):
            return 0
        try:
            row = await connection.fetchrow(self.sql("SELECT version, instance FROM tq_schema WHERE program = 'tq'"))
        except asyncpg.UndefinedColumnError:
            row = None
        if row is None:
            raise self._foreign("schema")
        version: int = row["version"]
        self.instance = UUID(int=row["instance"].int)
        if version > len(MIGRATIONS):
            raise ForeignDatabaseError(
                f"{self.place}: {self.name('schema')} was made by a newer tq: its version is {version}, this one knows"
                f" {len(MIGRATIONS)}; upgrade tq"
            )
        return version

    async def _refuse_foreign(self, connection: Lent) -> None:
        if found := await self._there(connection, [name for kind, name in _made() if kind != "FUNCTION"]):
            raise self._foreign(found[0])

    async def _there(self, connection: Lent, names: Sequence[str]) -> list[str]:
        """Return which of our tables are there.

        Asked of the catalogue itself: what `to_regclass` says is remembered while one waits for another process.
        """
        rows = await connection.fetch(
            "SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = $1 AND c.relname = ANY ($2::text[])",
            self.schema,
            [f"{self.namespace}_{name}" for name in names],
        )
        return [name.removeprefix(f"{self.namespace}_") for (name,) in rows]

    def _foreign(self, name: str) -> ForeignDatabaseError:
        return ForeignDatabaseError(
            f"{self.place}: {self.name(name)} belongs to another program; give another schema=… or namespace=…"
        )

    async def _drop_functions(self, connection: Lent) -> None:
        names = [f"{self.namespace}_{name}" for kind, name in _made() if kind == "FUNCTION"]
        for (function,) in await connection.fetch(
            "SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
            " WHERE n.nspname = $1 AND p.proname = ANY ($2::text[])",
            self.schema,
            names,
        ):
            await connection.execute(f"DROP FUNCTION {function}")


def read(name: str) -> str:
    return files("tq_postgres").joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")


def _made() -> list[tuple[str, str]]:
    """Return what the files make, by kind and name."""
    return [made for name in (*MIGRATIONS, *FUNCTIONS) for made in _MADE.findall(read(name))]
