"""A line to a server, for tests that disturb it: it loses answers, falls silent, is cut, or leads to another server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

__all__ = ["Line", "line"]


class Line:
    """Carries what is said both ways, always from the same port of this machine."""

    def __init__(self, url: str) -> None:
        self.port = 0
        self.answers_to_lose = 0
        """Answers that end their connection on the way."""
        self.lost = 0
        self._url = url
        self._there = address_of(url)
        self._listening: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._deaf: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        """The server's URL as it is through this line."""
        host, port = address_of(self._url)
        return self._url.replace(f"{host}:{port}", f"127.0.0.1:{self.port}")

    async def open(self) -> None:
        """Let callers in."""
        self._listening = await asyncio.start_server(self._carry, "127.0.0.1", self.port)
        self.port = self._listening.sockets[0].getsockname()[1]

    def deafen(self) -> None:
        """Let what is connected now hear nothing any more, as if the other side had vanished without a word."""
        self._deaf |= self._writers

    def lead_to(self, url: str) -> None:
        """Lead to another server from now on; what is connected is cut."""
        self._there = address_of(url)
        self._abort()

    async def cut(self) -> None:
        """End every connection, and let nobody in."""
        assert self._listening is not None
        self._listening.close()
        self._abort()
        await asyncio.sleep(0.05)

    def _abort(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            from_server, to_server = await asyncio.open_connection(*self._there)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, to_server}
        self._writers |= both
        try:
            await asyncio.gather(self._pass(reader, to_server), self._answer(from_server, writer))
        finally:
            self._writers -= both
            self._deaf -= both

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if writer in self._deaf:
                    continue
                if self.answers_to_lose:
                    self.answers_to_lose -= 1
                    self.lost += 1
                    break
                writer.write(data)
        writer.close()


@asynccontextmanager
async def line(url: str) -> AsyncGenerator[Line, None]:
    """Give an open line to the server of a URL."""
    made = Line(url)
    await made.open()
    try:
        yield made
    finally:
        await made.cut()


def address_of(url: str) -> tuple[str, int]:
    """Return host and port."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port
