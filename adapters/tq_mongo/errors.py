"""The one place where exceptions of PyMongo become errors of tq; each says which server it was, and the way out.

Motor raises PyMongo's own.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, cast

from tq.errors import (
    BackendError,
    BackendUnavailableError,
    ConfigurationError,
    ContentRefusedError,
    DatabaseFullError,
    ReadOnlyDatabaseError,
    TqError,
)

from .driver import bson_errors, exceptions

__all__ = ["DUPLICATE", "ERRORS", "mapped", "translate"]

DUPLICATE = 11000
"""What the server says to a second document under a unique key: expected, and counted where it comes."""

Kind = tuple[type[TqError], str]

_AWAY: Kind = BackendUnavailableError, "cannot be reached, or is busy; see that it runs, and that the URL is right"
_REFUSES_USER: Kind = BackendError, "refuses this user; check name and password in the URL, and the user's roles"
_READ_ONLY: Kind = ReadOnlyDatabaseError, "cannot be written to; name the primary, and see its log"
_FULL: Kind = DatabaseFullError, "has no room left on its disk; make some"
_CONTENT: Kind = ContentRefusedError, "cannot hold this value"
_WRONG_URL: Kind = ConfigurationError, "cannot be used as the URL says"
_CLOSED: Kind = BackendError, "is closed, or its client is used as it must not be"
_OTHER: Kind = BackendError, "answers with an error"

ERRORS: Sequence[tuple[type[Exception], Kind]] = (
    (exceptions.ConfigurationError, _WRONG_URL),
    (exceptions.InvalidName, _WRONG_URL),
    (exceptions.CollectionInvalid, _OTHER),
    (exceptions.EncryptionError, _OTHER),
    (exceptions.NotPrimaryError, _AWAY),
    (exceptions.ConnectionFailure, _AWAY),
    (exceptions.CursorNotFound, _AWAY),
    (exceptions.ExecutionTimeout, _AWAY),
    (exceptions.WTimeoutError, _AWAY),
    (exceptions.ProtocolError, _AWAY),  # the connection broke in the midst of an answer
    (exceptions.InvalidOperation, _CLOSED),
    (bson_errors.BSONError, _CONTENT),
)
"""Exceptions whose class says what is wrong; of `OperationFailure` the server's code does."""

_CODES: dict[int, Kind] = {
    **dict.fromkeys((13, 18, 31, 8000), _REFUSES_USER),
    **dict.fromkeys((13436, 10107, 10058, 13435), _READ_ONLY),
    **dict.fromkeys((14031, 146), _FULL),
    **dict.fromkeys((10334, 17419, 17420, 22, 2), _CONTENT),
    # Locks, conflicts, time limits, and servers that come up, step down or go away.
    **dict.fromkeys((6, 7, 24, 46, 50, 64, 89, 91, 112, 189, 202, 225, 262, 317, 358, 365), _AWAY),
    **dict.fromkeys((9001, 11600, 11601, 11602), _AWAY),
}

_NOT_SENT = (UnicodeEncodeError, OverflowError)
"""Raised before the server sees it: a text or a number that cannot be written."""


@contextmanager
def mapped(place: str) -> Generator[None, None, None]:
    """Raise errors of tq in place of PyMongo's; `place` names the server in the message.

    Raises:
        BackendError: and its branches, with the cause.
        ConfigurationError: the URL cannot be used.
    """
    try:
        yield
    except (exceptions.PyMongoError, bson_errors.BSONError, OSError) as error:
        raise translate(error, place) from error
    except _NOT_SENT as error:
        raise ContentRefusedError(f"{place} cannot hold this value: {error}") from error


def translate(error: Exception, place: str) -> TqError:
    """Return our error for one of PyMongo's."""
    kind, words = _kind(error)
    return kind(f"{place} {words}: {_told(error)}")


def _kind(error: Exception) -> Kind:
    if isinstance(error, OSError):
        return _AWAY
    for wrong, kind in ERRORS:
        if isinstance(error, wrong):
            return kind
    known = [_CODES[code] for code in _codes(error) if code in _CODES]
    # Of several that were refused, one that is away may be tried again with all the others.
    return _AWAY if _AWAY in known else known[0] if known else _OTHER


def _codes(error: Exception) -> list[int]:
    """Return what the server said, in numbers."""
    codes = [cast("int | None", getattr(error, "code", None))]
    details: Any = getattr(error, "details", None)
    if isinstance(details, dict):
        told = cast("dict[str, Any]", details)
        parts = [*told.get("writeErrors", ()), *told.get("writeConcernErrors", ())]
        codes += [part.get("code") for part in parts]
        if parts and told.get("writeConcernErrors"):
            codes.append(64)  # written, and not known to last
    return [code for code in codes if code is not None]


def _told(error: Exception) -> str:
    """Return the driver's words; those of a bulk hold whole documents, of which one error is enough."""
    details: Any = getattr(error, "details", None)
    if isinstance(error, exceptions.BulkWriteError) and isinstance(details, dict):
        told = cast("dict[str, Any]", details)
        parts = [*told.get("writeErrors", ()), *told.get("writeConcernErrors", ())]
        return "; ".join(str(part.get("errmsg")) for part in parts[:1])
    return str(error)
