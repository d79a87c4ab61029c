"""Every story is told on each backend that needs no server; some, on several servers at once as well.

`TQ_TEST_STORIES=postgres` tells them on that server: a few minutes that one takes when its adapter has changed.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest

from tests.stories.homes import HOMES, Home
from tq.ports import Backend
from tq.testing import VirtualClock


@pytest.fixture(params=os.environ.get("TQ_TEST_STORIES", "memory,sqlite").split(","))
def url(request: pytest.FixtureRequest) -> str:
    """Where the story's handler keeps its tasks."""
    if request.param in {"memory", "sqlite"}:
        return f"{request.param}://"
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture(params=HOMES)
def home(request: pytest.FixtureRequest, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """Each backend that needs no server, and the composite of several."""
    parts = HOMES[request.param](clock)
    yield Home(clock, monkeypatch, **parts)
    backends: set[Backend | None] = {getattr(part, "backend", None) for part in parts.values()}
    for backend in backends - {None}:
        assert backend is not None
        asyncio.run(backend.close())
