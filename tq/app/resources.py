"""What a lifespan yields, by the types that executors ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, cast

from tq.errors import ConfigurationError
from tq.runner.registry import Registration

__all__ = ["Lifespan", "resolve"]

Lifespan = Callable[[], AbstractAsyncContextManager[Any]]
"""Entered once per worker; yields an object, several in a tuple or list, or a mapping from type to object."""


def resolve(yielded: object, registrations: Sequence[Registration]) -> dict[Any, Any]:
    """Return, per type asked for, the object to give.

    Raises:
        ConfigurationError: nothing yielded fits; names the executor and the argument.
    """
    given: dict[Any, Any] = {}
    objects: list[object] = []
    if isinstance(yielded, Mapping):
        given = dict(cast("dict[Any, Any]", yielded))
        objects = list(given.values())
    elif isinstance(yielded, tuple | list):
        objects = list(cast("Iterable[object]", yielded))
    elif yielded is not None:
        objects = [yielded]
    found: dict[Any, Any] = {}
    for registration in registrations:
        for name, wanted in registration.signature.resources:
            if wanted in found:
                continue
            if wanted in given:
                found[wanted] = given[wanted]
                continue
            fitting = [item for item in objects if isinstance(wanted, type) and isinstance(item, wanted)]
            if not fitting:
                raise ConfigurationError(
                    f"executor {registration.type!r} on queue {registration.queue!r} asks for {name}: {wanted!r}, "
                    "which the handler's lifespan does not yield"
                )
            found[wanted] = fitting[0]
    return found
