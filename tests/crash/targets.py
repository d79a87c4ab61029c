"""Where a run under fire keeps its tasks: one line for each backend that worker processes may share.

Beside the workers, the server is struck: brought down hard and up again over the same data, where there is one; a file
is locked by somebody else for a while.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.crash import struck
from tests.crash.fired_upon import JOINS, STEPS
from tests.house.tree import adapters

__all__ = ["TARGETS", "Target"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What workers connect to, and what may be done to it while they work."""

    parts: dict[str, Any]
    """URLs as `connected` takes them: `queue_url` or `routes`, and `store` and `barrier` where they are elsewhere."""
    strike: Callable[[], None]
    """Takes the server away, and gives it back with all that it acknowledged; blocks meanwhile."""
    size: float = 1.0
    """How much of the usual work it is given."""


@contextmanager
def sqlite(folder: Path) -> Generator[Target, None, None]:
    """One file."""
    path = folder / "tq.db"
    yield Target(parts={"queue_url": url_of(path)}, strike=lambda: lock(path))


@contextmanager
def two_files(folder: Path) -> Generator[Target, None, None]:
    """Queue and store on servers of their own: no transaction spans them."""
    soon, kept = folder / "soon.db", folder / "kept.db"
    parts = {"queue_url": url_of(soon), "store": url_of(kept), "barrier": url_of(kept)}
    yield Target(parts=parts, strike=lambda: lock(random.choice((soon, kept))))


@contextmanager
def redis(_: Path) -> Generator[Target, None, None]:
    """A server that is killed."""
    with struck.redis() as server:
        yield Target(parts={"queue_url": server.url}, strike=server.strike)


@contextmanager
def mongo(_: Path) -> Generator[Target, None, None]:
    """A server that is killed; or the emulator, which stands still for a while, and is given little."""
    with struck.mongo() as server:
        parts = {"queue_url": server.url}
        if shutil.which("mongod") is not None:
            yield Target(parts=parts, strike=server.strike)
        else:
            yield Target(parts=parts, strike=lambda: freeze(server), size=0.05)


@contextmanager
def postgres(_: Path) -> Generator[Target, None, None]:
    """A server that is stopped without a checkpoint."""
    with struck.postgres() as server:
        yield Target(parts={"queue_url": server.url}, strike=server.strike)


@contextmanager
def redis_and_postgres(_: Path) -> Generator[Target, None, None]:
    """The queue on one server, store and flows on another; each is struck by itself."""
    with struck.redis() as soon, struck.postgres() as kept:
        parts = {"queue_url": soon.url, "store": kept.url, "barrier": kept.url}
        yield Target(parts=parts, strike=lambda: random.choice((soon, kept)).strike())


@contextmanager
def three_servers(folder: Path) -> Generator[Target, None, None]:
    """Steps on one server, joins and flows on another, all the rest and the store on a third; each is struck alone."""
    path = folder / "tq.db"
    with struck.redis() as steps, struck.postgres() as kept:
        routes = {STEPS: steps.url, JOINS: url_of(path), "*": kept.url}
        parts = {"routes": routes, "store": kept.url, "barrier": url_of(path)}
        strikes: tuple[Callable[[], None], ...] = (steps.strike, kept.strike, lambda: lock(path))

        def strike() -> None:
            random.choice(strikes)()

        yield Target(parts=parts, strike=strike)


def freeze(server: struck.Server) -> None:
    """Let a server stand still for up to two seconds: longer than its clients wait, and than a lease lasts."""
    with server.frozen():
        time.sleep(random.uniform(0.1, 2.0))


def url_of(path: Path) -> str:
    """Return a file whose commits survive the death of processes, which is all that dies here; it gives up early."""
    return f"sqlite:///{path}?synchronous=NORMAL&busy_timeout=0.5"


def lock(path: Path) -> None:
    """Let nobody else write for up to two seconds: longer than writers wait, and than a lease lasts."""
    with closing(sqlite3.connect(path, timeout=10, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        time.sleep(random.uniform(0.1, 2.0))
        db.execute("ROLLBACK")


TARGETS: dict[str, Callable[[Path], AbstractContextManager[Target]]] = {"sqlite": sqlite, "two files": two_files}
if "tq_mongo" in adapters():
    TARGETS["mongo"] = mongo
if "tq_redis" in adapters():
    TARGETS["redis"] = redis
if "tq_postgres" in adapters():
    TARGETS["postgres"] = postgres
if {"tq_redis", "tq_postgres"} <= set(adapters()):
    TARGETS["redis and postgres"] = redis_and_postgres
    TARGETS["three servers"] = three_servers
