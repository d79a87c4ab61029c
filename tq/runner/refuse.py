"""Refuse what pydantic would write as something else: floats that JSON has no word for, and secrets."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, cast

from pydantic import Secret, SecretBytes, SecretStr, TypeAdapter

from tq.errors import PayloadError

__all__ = ["listed_deep", "refuse_hidden", "refuse_non_finite"]

_MASK = b'"**********"'
_SURE = frozenset({str, int, bool})


def refuse_non_finite(value: object, path: str) -> bool:
    """Refuse NaN and Infinity, which JSON has not; return whether there is a None, which may stand for one.

    Written as null they would come back as something else.
    """
    none = value is None
    if type(value) is float:
        if not math.isfinite(value):
            raise PayloadError(path, value, "give a finite number, a string, or None")
    elif type(value) is dict:
        for key, item in cast("dict[object, object]", value).items():
            if type(item) not in _SURE:
                none |= item is None or refuse_non_finite(item, f"{path}.{key}")
    elif type(value) is list:
        for index, item in enumerate(cast("list[object]", value)):
            if type(item) not in _SURE:
                none |= item is None or refuse_non_finite(item, f"{path}[{index}]")
    return none


def refuse_hidden(data: bytes, field: str, adapter: TypeAdapter[Any], value: object) -> None:
    """Refuse what pydantic hides when it writes it; only where there is a mask are the values themselves looked at."""
    if _MASK in data:
        _refuse_secrets(listed_deep(adapter.dump_python(value, by_alias=True, warnings=False)), field)


def _refuse_secrets(value: object, path: str) -> None:
    if isinstance(value, Secret | SecretStr | SecretBytes) and value:  # an empty one is written as it is
        name = type(cast("object", value)).__name__
        way_out = f"{name} hides its value when it is written: give a plain str, or a reference to where it is kept"
        raise PayloadError(path, cast("object", value), way_out)
    if isinstance(value, dict):
        for key, item in cast("dict[object, object]", value).items():
            _refuse_secrets(item, f"{path}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(cast("list[object]", value)):
            _refuse_secrets(item, f"{path}[{index}]")


def listed_deep(value: object) -> object:
    """Return values with every mapping as a dict, every other collection as a list, every float as a float."""
    if isinstance(value, float):
        return float(value)
    if isinstance(value, Mapping):
        return {key: listed_deep(item) for key, item in cast("Mapping[object, object]", value).items()}
    if isinstance(value, list | tuple | AbstractSet | deque):
        return [listed_deep(item) for item in cast("Iterable[object]", value)]
    return value
