"""The one place where exceptions of redis-py become errors of tq; each says which server it was, and the way out."""

from __future__ import annotations

import struct
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from tq.errors import (
    BackendError,
    BackendUnavailableError,
    ContentRefusedError,
    DatabaseFullError,
    ForeignDatabaseError,
    ReadOnlyDatabaseError,
)

from .driver import exceptions

__all__ = ["ERRORS", "mapped", "translate"]

Kind = tuple[type[BackendError], str]

_AWAY: Kind = BackendUnavailableError, "cannot be reached, or is busy; see that it runs, and that the URL is right"
_REFUSES_USER: Kind = BackendError, "refuses this user; check name and password in the URL, and the user's rights"
_FOREIGN: Kind = ForeignDatabaseError, "holds keys of another program under our names; give another namespace="
_READ_ONLY: Kind = ReadOnlyDatabaseError, "cannot be written to; name the primary, and see its log"
_FULL: Kind = DatabaseFullError, "has no memory left; raise its maxmemory, or remove what is not needed"
_CONTENT: Kind = ContentRefusedError, "cannot hold this value"
_OTHER: Kind = BackendError, "answers with an error"

ERRORS: Sequence[tuple[type[Exception], Kind]] = (
    (exceptions.AuthenticationError, _REFUSES_USER),
    (exceptions.AuthenticationWrongNumberOfArgsError, _REFUSES_USER),
    (exceptions.AuthorizationError, _REFUSES_USER),
    (exceptions.NoPermissionError, _REFUSES_USER),
    (exceptions.ReadOnlyError, _READ_ONLY),
    (exceptions.OutOfMemoryError, _FULL),
    (exceptions.DataError, _CONTENT),
    (exceptions.ClusterError, _AWAY),
    (exceptions.TryAgainError, _AWAY),
    (exceptions.AskError, _AWAY),
    (exceptions.RedisClusterException, _AWAY),
    (exceptions.ConnectionError, _AWAY),
    (exceptions.TimeoutError, _AWAY),
    (exceptions.InvalidResponse, _AWAY),  # the connection broke in the midst of an answer
)
"""Exceptions whose class says what is wrong; of the others the first word of the server's answer does."""

_WORDS: Sequence[tuple[str, Kind]] = (
    ("TQREFUSED", _CONTENT),
    ("TQFOREIGN", _FOREIGN),
    ("WRONGTYPE", _FOREIGN),
    ("OOM ", _FULL),
    ("READONLY", _READ_ONLY),
    ("MISCONF", _READ_ONLY),
    ("BUSY", _AWAY),
    ("NOREPLICAS", _AWAY),
    ("UNKILLABLE", _AWAY),
    ("LOADING", _AWAY),
    ("MASTERDOWN", _AWAY),
    ("CLUSTERDOWN", _AWAY),
    ("DB index", (BackendError, "has no such database; give a smaller number")),
    ("SELECT is not allowed", (BackendError, "is a cluster, which has database 0 only; leave the number out")),
)

_NOT_SENT = (UnicodeEncodeError, OverflowError, struct.error)
"""Raised before the server sees it: a text or a number that cannot be written."""


@contextmanager
def mapped(place: str) -> Generator[None, None, None]:
    """Raise errors of tq in place of redis-py's; `place` names the server in the message.

    Raises:
        BackendError: and its branches, with the cause.
    """
    try:
        yield
    except (exceptions.RedisError, exceptions.RedisClusterException, OSError) as error:
        raise translate(error, place) from error
    except _NOT_SENT as error:
        raise ContentRefusedError(f"{place} cannot hold this value: {error}") from error


def translate(error: Exception, place: str) -> BackendError:
    """Return our error for one of redis-py's."""
    kind, words = _kind(error)
    return kind(f"{place} {words}: {error}")


def _kind(error: Exception) -> Kind:
    if isinstance(error, OSError):
        return _AWAY
    for wrong, kind in ERRORS:
        if isinstance(error, wrong):
            return kind
    told = str(error)
    return next((kind for word, kind in _WORDS if word in told), _OTHER)
