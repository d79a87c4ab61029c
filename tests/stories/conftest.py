"""Every story is told on each backend that needs no server; some, on several servers at once as well."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.stories.homes import HOMES, Home
from tq.ports import Backend
from tq.testing import VirtualClock


@pytest.fixture(params=["memory://", "sqlite://"], ids=["memory", "sqlite"])
def url(request: pytest.FixtureRequest) -> str:
    """Where the story's handler keeps its tasks."""
    return str(request.param)


@pytest.fixture(params=HOMES)
def home(request: pytest.FixtureRequest, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """Each backend that needs no server, and the composite of several."""
    parts = HOMES[request.param](clock)
    yield Home(clock, monkeypatch, **parts)
    backends: set[Backend | None] = {getattr(part, "backend", None) for part in parts.values()}
    for backend in backends - {None}:
        assert backend is not None
        asyncio.run(backend.close())
