"""The one script that carries out every verb: the files of lua/, put together in the order in which they build up."""

from __future__ import annotations

from functools import cache
from hashlib import sha1
from importlib.resources import files
from typing import NamedTuple

__all__ = ["Script", "script"]

_ROOMS = (
    "ground",
    "waiting",
    "messages",
    "whereabouts",
    "leases",
    "claims",
    "records",
    "ledger",
    "rows",
    "shards",
    "flows",
    "marks",
    "commit",
    "verbs",
    "calls",
)


class Script(NamedTuple):
    """Its text, and the name under which a server remembers it."""

    text: bytes
    sha: str


@cache
def script() -> Script:
    """Return the script."""
    lua = files("tq_redis") / "lua"
    text = b"\n".join([(lua / f"{room}.lua").read_bytes() for room in _ROOMS])
    return Script(text, sha1(text, usedforsecurity=False).hexdigest())
