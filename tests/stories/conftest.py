"""Every story is told on each backend that needs no server."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["memory://", "sqlite://"], ids=["memory", "sqlite"])
def url(request: pytest.FixtureRequest) -> str:
    """Where the story's handler keeps its tasks."""
    return str(request.param)
