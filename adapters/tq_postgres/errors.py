"""The one place where exceptions of asyncpg become errors of tq."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager

import asyncpg

from tq.errors import (
    BackendError,
    BackendUnavailableError,
    ConfigurationError,
    ContentRefusedError,
    DatabaseFullError,
    ReadOnlyDatabaseError,
)

__all__ = ["ERRORS", "WAYS_OUT", "expectation", "lost_a_race", "mapped", "translate"]

ERRORS: Mapping[str, type[BackendError]] = {
    "08": BackendUnavailableError,  # the connection broke
    "22": ContentRefusedError,  # a value that its column cannot hold
    "23": ContentRefusedError,
    "25006": ReadOnlyDatabaseError,
    "40": BackendUnavailableError,  # lost a race against another transaction, again and again
    "42501": ReadOnlyDatabaseError,  # the role may not write here
    "53": BackendUnavailableError,  # too many connections, or no memory
    "53100": DatabaseFullError,
    "54": ContentRefusedError,  # longer, or larger, than PostgreSQL can take
    "55": BackendUnavailableError,  # a lock was not to be had
    "57": BackendUnavailableError,  # it is starting, stopping, or was told to give up the statement
    "58": BackendUnavailableError,  # its disk, or its system, failed it
}
"""SQLSTATE, or its class → our error. What is absent says that we, or the database, are wrong: `BackendError`."""

WAYS_OUT: Mapping[str, str] = {
    "28": "correct the user or the password in the URL",
    "3D000": "create the database, or correct its name in the URL",
    "3F000": "its tables are gone: open it again to make them anew",
    "42P01": "its tables are gone, or were changed by another version of tq: open it again",
    "42883": "its functions are gone, or were changed by another version of tq: open it again",
    "25006": "it is a standby, or set to read only: name the primary",
    "42501": "grant the role what it needs, or have the schema made for it: CREATE SCHEMA … AUTHORIZATION …",
    "53100": "free room on its disk",
    "53300": "give it more connections, or lower pool_size",
}
"""What to do about it, where that is not plain."""

_RACES = frozenset({"40001", "40P01"})
_NEVER_SENT = (asyncpg.DataError, OverflowError, UnicodeEncodeError)
"""Raised before the server sees it: a number or text that it cannot hold."""


def lost_a_race(error: BackendError) -> bool:
    """Tell whether a transaction only met another one: the same may be tried again at once."""
    return getattr(error.__cause__, "sqlstate", None) in _RACES


def expectation(error: BackendError) -> tuple[str, list[int]] | None:
    """Return what `tq_expect` refused a statement for, and the places that it named; None for any other error."""
    cause = error.__cause__
    if getattr(cause, "sqlstate", None) != "TQ000" or cause is None:
        return None
    return cause.args[0], json.loads(getattr(cause, "detail", None) or "[]")


@contextmanager
def mapped(place: str) -> Generator[None, None, None]:
    """Raise errors of tq in place of asyncpg's; `place` names the database in the message.

    Raises:
        BackendError: and its branches, with the cause.
        ConfigurationError: the URL cannot be read.
    """
    try:
        yield
    except asyncpg.PostgresError as error:
        raise translate(error, place) from error
    except _NEVER_SENT as error:
        raise ContentRefusedError(f"{place} cannot hold this value: {error}") from error
    except asyncpg.ClientConfigurationError as error:
        raise ConfigurationError(f"{place}: {error}") from error
    except asyncpg.InterfaceError as error:
        kind = BackendUnavailableError if "clos" in str(error) else BackendError  # closed, or closing
        raise kind(f"{place}: {error}") from error
    except asyncpg.InternalClientError as error:  # a connection whose server ended it amid a statement
        raise BackendUnavailableError(f"{place} broke off the connection: {error}") from error
    except TimeoutError as error:
        raise BackendUnavailableError(
            f"{place} did not answer in time; see that it runs and has not too much to do, or raise command_timeout"
        ) from error
    except OSError as error:
        words = error.strerror or str(error) or type(error).__name__
        raise BackendUnavailableError(
            f"{place} cannot be reached: {words}; start it, or correct host and port in the URL"
        ) from error


def translate(error: asyncpg.PostgresError, place: str) -> BackendError:
    """Return our error for one of the server's."""
    state: str = getattr(error, "sqlstate", None) or ""
    kind = ERRORS.get(state) or ERRORS.get(state[:2], BackendError)
    way_out = WAYS_OUT.get(state) or WAYS_OUT.get(state[:2], "")
    return kind(f"{place}: {error.args[0] if error.args else error} ({state}){way_out and f'; {way_out}'}")
