"""Clients of both drivers, made and closed alike."""

from __future__ import annotations

import inspect
from typing import Any, Protocol

from .driver import AsyncMongoClient, exceptions
from .errors import mapped
from .settings import MongoSettings

__all__ = ["Client", "close", "connect"]


class Client(Protocol):
    """What is used of a client: PyMongo's `AsyncMongoClient`, or Motor's, which it succeeds."""

    def __getitem__(self, name: str) -> Any:
        """Return a database."""
        ...

    def close(self) -> Any:
        """Close its connections; PyMongo's is to be awaited, Motor's is not."""
        ...


def connect(settings: MongoSettings) -> Client:
    """Return a client for the event loop that runs; it connects with the first call.

    Writes are acknowledged when they are in the server's journal, and on a replica set by most of its members. They
    are not sent again by the driver, which can do that on replica sets only: each may be made again by us.

    Raises:
        ConfigurationError: the URL cannot be used.
    """
    milliseconds = int(settings.timeout * 1000)
    options: dict[str, Any] = {
        "appname": "tq",
        "w": "majority",
        "journal": True,
        "retryWrites": False,
        "retryReads": False,
        "tz_aware": True,
        "connectTimeoutMS": milliseconds,
        "serverSelectionTimeoutMS": milliseconds,
        "socketTimeoutMS": milliseconds,
    }
    with mapped(settings.place):
        try:
            return AsyncMongoClient(settings.uri, **options)
        except (ValueError, TypeError) as error:  # the driver's words show a part of the URL
            raise exceptions.ConfigurationError(f"the driver does not understand it: {type(error).__name__}") from None


async def close(client: Client) -> None:
    """Close a client."""
    answer = client.close()
    if inspect.isawaitable(answer):
        await answer
