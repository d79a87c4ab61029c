"""Opens what a URL names, for commands that look and do not run anything."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tq.app.handler import TaskHandler
from tq.errors import ConfigurationError, InvalidInputError

__all__ = ["opened"]


@asynccontextmanager
async def opened(url: str) -> AsyncGenerator[TaskHandler]:
    """Give a handler without executors.

    Raises:
        ConfigurationError: no adapter takes the URL, or it names a file that is not there: looking must not make one.
        InvalidInputError: it is no URL.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise InvalidInputError("url", url, str(error)) from error
    if parts.scheme == "sqlite" and not parts.netloc:
        file = unquote(parts.path[1:])
        if not file or not Path(file).is_file():  # noqa: ASYNC240 -- nothing else runs yet
            where = f"there is no file {file}" if file else "a database in memory holds nothing"
            raise ConfigurationError(f"{where}: name another backend by --url or TQ_URL")
    async with TaskHandler.connect(url) as handler:
        yield handler
