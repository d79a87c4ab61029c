"""The door: where payloads and results become JSON, and JSON becomes what an executor asked for.

Everything is checked here, once, by pydantic. What passes is bytes; nothing behind the door looks at a payload again.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, TypeVar, cast

from pydantic import PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, to_jsonable_python

from tq.codec import dumps, loads
from tq.errors import InvalidInputError, PayloadError, RegistrationError

__all__ = ["MAX_PAYLOAD", "MAX_RESULT", "Shape", "dump_plain", "listed", "whole"]

T = TypeVar("T")

MAX_PAYLOAD = 1024 * 1024
MAX_RESULT = 256 * 1024  # RES-05


def listed(field: str, items: Iterable[T], way_out: str) -> list[T]:
    """Return a list of what was given; a generator is taken once, here, and not looked at twice elsewhere.

    Raises:
        InvalidInputError: it is nothing that holds several things.
    """
    if isinstance(items, str | bytes | Mapping) or not isinstance(items, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance] -- users pass anything
        raise InvalidInputError(field, cast("object", items), way_out)
    return list(items)


def whole(field: str, value: object, *, least: int) -> int:
    """Return a whole number.

    Raises:
        InvalidInputError: it is none, or less than `least`.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InvalidInputError(field, value, f"give a whole number, {least} or more")
    return value


class Shape:
    """A type as the door sees it: checks values into it, writes values of it."""

    __slots__ = ("_adapter", "_plain", "_validate", "_validate_json", "annotation", "checked")

    def __init__(self, annotation: Any, what: str) -> None:
        """Prepare the checks.

        Raises:
            RegistrationError: pydantic knows no way to check this annotation.
        """
        self.annotation = annotation
        self.checked = annotation is not Any
        try:
            self._adapter: TypeAdapter[Any] = TypeAdapter(annotation)
        except PydanticUserError as error:
            raise RegistrationError(f"{what}: pydantic cannot check {annotation!r}: {error}") from error
        # What the adapter itself offers would look for options first.
        self._validate_json = self._adapter.validator.validate_json
        self._validate = self._adapter.validator.validate_python
        self._plain = self._adapter.serializer.to_python

    def load(self, data: bytes) -> Any:
        """Return the checked value of JSON.

        Raises:
            PayloadError: it does not fit; names the first field that does not.
        """
        if not self.checked:
            return loads(data)
        try:
            return self._validate_json(data)
        except ValidationError as error:
            raise _misfit(error, self.annotation) from error

    def load_value(self, value: object) -> Any:
        """Return the checked value of plain JSON values that tq itself made.

        Raises:
            PayloadError: they do not fit.
        """
        if not self.checked:
            return value
        try:
            return self._validate(value)
        except ValidationError as error:
            raise _misfit(error, self.annotation) from error

    def dump(self, value: object, field: str, limit: int = MAX_PAYLOAD) -> bytes:
        """Check a producer's value and return its JSON.

        Raises:
            PayloadError: it does not fit, cannot be written, holds a float that is not finite, or is too large.
        """
        if not self.checked:
            return dump_plain(value, field, limit)
        try:
            fitting = self._validate(value)
            plain = self._plain(fitting, mode="json", by_alias=True)
        except ValidationError as error:
            raise _misfit(error, self.annotation) from error
        except (PydanticSerializationError, ValueError, RecursionError) as error:
            raise PayloadError(field, value, f"give something pydantic can write as JSON: {error}") from error
        return _dump_checked(plain, field, limit, self._adapter, fitting)

    def dump_result(self, value: object) -> bytes:
        """Return a result's JSON; what it is checked against is what it was declared to be.

        Raises:
            PayloadError: as for `dump`, with the limit of results.
        """
        if not self.checked:
            return dump_plain(value, "result", MAX_RESULT)
        try:
            plain = self._plain(value, mode="json", by_alias=True, warnings=False)
        except (PydanticSerializationError, ValueError, RecursionError, AttributeError):
            return dump_plain(value, "result", MAX_RESULT)  # not of its declared type: still a result
        return _dump_checked(plain, "result", MAX_RESULT, self._adapter, value)


def dump_plain(value: object, field: str, limit: int) -> bytes:
    """Return the JSON of a value whose type is not known here: anything that pydantic can dump.

    Raises:
        PayloadError: it cannot be written, holds a float that is not finite, or is too large.
    """
    if _is_plain(value):
        return _dump_checked(value, field, limit)
    try:
        plain = to_jsonable_python(value, by_alias=True, inf_nan_mode="constants")
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise PayloadError(field, value, f"give something pydantic can write as JSON: {error}") from error
    return _dump_checked(plain, field, limit, _ANYTHING, value)


_LEAVES = frozenset({str, int, bool, type(None), float})


def _is_plain(value: object) -> bool:
    """Tell, one level deep, whether JSON can write it as it is; deeper values take the thorough way."""
    if type(value) is dict:
        values = cast("dict[object, object]", value)
        return all(type(key) is str and type(item) in _LEAVES for key, item in values.items())
    return type(value) in _LEAVES


def _dump_checked(
    plain: object, field: str, limit: int, adapter: TypeAdapter[Any] | None = None, value: object = None
) -> bytes:
    """Return the JSON of what is plain already, or what `adapter` made of `value`.

    Where pydantic knows no type it writes a float that is not finite as null, so where there is a null, and only
    there, the values themselves are looked at.
    """
    if _refuse_non_finite(plain, field) and adapter is not None and value is not None:
        _refuse_non_finite(_listed_deep(adapter.dump_python(value, by_alias=True, warnings=False)), field)
    try:
        data = dumps(plain)
    except PayloadError as error:
        raise PayloadError(field, plain, error.way_out) from error.__cause__
    if len(data) > limit:
        shown = f"{len(data):,} bytes of JSON"
        raise PayloadError(field, shown, f"give at most {limit:,} bytes, or a reference to where the data lies")
    return data


def _refuse_non_finite(value: object, path: str) -> bool:
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
                none |= item is None or _refuse_non_finite(item, f"{path}.{key}")
    elif type(value) is list:
        for index, item in enumerate(cast("list[object]", value)):
            if type(item) not in _SURE:
                none |= item is None or _refuse_non_finite(item, f"{path}[{index}]")
    return none


_SURE = frozenset({str, int, bool})
_ANYTHING: TypeAdapter[Any] = TypeAdapter(Any)


def _listed_deep(value: object) -> object:
    """Return values with every mapping as a dict, every other collection as a list, every float as a float."""
    if isinstance(value, float):
        return float(value)
    if isinstance(value, Mapping):
        return {key: _listed_deep(item) for key, item in cast("Mapping[object, object]", value).items()}
    if isinstance(value, list | tuple | AbstractSet | deque):
        return [_listed_deep(item) for item in cast("Iterable[object]", value)]
    return value


def _misfit(error: ValidationError, annotation: object) -> PayloadError:
    first: Mapping[str, Any] = cast("Mapping[str, Any]", error.errors(include_url=False, include_context=False)[0])
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
    more = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
    name = getattr(annotation, "__name__", str(annotation))
    return PayloadError(f"payload{where}", first.get("input"), f"it must fit {name}: {first['msg']}{more}")
