"""The door: where payloads and results become JSON, and JSON becomes what an executor asked for.

Everything is checked here, once, by pydantic. What passes is bytes; nothing behind the door looks at a payload again.
So what a worker could not read, or would read as another value, is refused here (`tq.runner.roundtrip` tells when).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, TypeVar, cast

from pydantic import PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, to_jsonable_python

from tq.codec import dumps, loads
from tq.errors import InvalidInputError, PayloadError, RegistrationError
from tq.runner.refuse import listed_deep, refuse_hidden, refuse_non_finite
from tq.runner.roundtrip import Change, Trust, changed, plan_trip

__all__ = ["MAX_PAYLOAD", "MAX_RESULT", "Shape", "dump_plain", "listed", "whole"]

T = TypeVar("T")

MAX_PAYLOAD = 1024 * 1024
MAX_RESULT = 256 * 1024  # RES-05
MOST_KNOWN = 1_000
"""Combinations of types that are remembered of one model: optional fields make many."""


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

    __slots__ = (
        "_adapter",
        "_known",
        "_model",
        "_plain",
        "_sure",
        "_trip",
        "_usual",
        "_validate",
        "_validate_json",
        "_write",
        "annotation",
        "checked",
    )

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
        self._trip = plan_trip(self._adapter.core_schema)
        self._write = partial(self._plain, mode="json", by_alias=True, round_trip=True)
        self._sure = self._trip.trust is Trust.WHOLE
        self._model = self._trip.models[0] if self._trip.trust is Trust.BY_TYPES else None
        self._known = set[tuple[type, ...]]()
        self._usual: list[type] = []
        """The types of the last model's values, which most likely are those of the next one's."""

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
        """Check a producer's value and return its JSON, which `load` makes the same value of.

        Raises:
            PayloadError: it does not fit, cannot be written, holds a float that is not finite, is too large, or would
                be refused, or be another value, when it is read.
        """
        if not self.checked:
            return dump_plain(value, field, limit)
        try:
            fitting: object = self._validate(value)
            sure = self._sure or (
                type(fitting) is self._model and [*map(type, fitting.__dict__.values())] == self._usual
            )
            plain = self._plain(fitting, mode="json", by_alias=True) if sure else None
        except ValidationError as error:
            raise _misfit(error, self.annotation) from error
        except (PydanticSerializationError, ValueError, RecursionError) as error:
            raise _unwritable(field, value, error) from error
        if sure:
            return _dump_checked(plain, field, limit, self._adapter, fitting)
        return self._dump_doubted(fitting, field, limit)

    def _dump_doubted(self, value: object, field: str, limit: int) -> bytes:
        """Write a value of which it is not known whether it comes back, and see."""
        types = _types_of(value) if type(value) is self._model else ()
        doubted = types not in self._known
        if self._trip.trust is Trust.UNLESS_WARNED:
            doubted = any(cls.__subclasses__() for cls in self._trip.models)
        try:
            try:
                plain = self._write(value, warnings=False if doubted else "error")
            except PydanticSerializationError:  # a warning, or a refusal that comes once more
                doubted = True
                plain = self._write(value, warnings=False)
        except (PydanticSerializationError, ValueError, RecursionError) as error:
            raise _unwritable(field, value, error) from error
        data = _dump_checked(plain, field, limit, self._adapter, value)
        if doubted:
            self._read_back(value, data, field)
        if types:
            self._usual = [*types]
            if len(self._known) < MOST_KNOWN:
                self._known.add(types)
        return data

    def _read_back(self, given: object, data: bytes, field: str) -> None:
        """Do with the JSON what a worker will do, and refuse what it would not be able to read, or read otherwise."""
        refuse_hidden(data, field, self._adapter, given)
        try:
            back = self._validate_json(data)
        except ValidationError as error:
            raise _misfit(error, self.annotation, _ONE_WAY) from error
        if (change := changed(given, back, field, free=self._trip.free)) is not None:
            raise PayloadError(change.path, change.given, _other(change))

    def dump_result(self, value: object) -> bytes:
        """Return a result's JSON; what it is checked against is what it was declared to be.

        Raises:
            PayloadError: as for `dump`, with the limit of results.
        """
        if not self.checked:
            return dump_plain(value, "result", MAX_RESULT, masked=True)
        try:
            plain = self._plain(value, mode="json", by_alias=True, warnings=False)
        except (PydanticSerializationError, ValueError, RecursionError, AttributeError):
            return dump_plain(value, "result", MAX_RESULT, masked=True)  # not of its declared type: still a result
        return _dump_checked(plain, "result", MAX_RESULT, self._adapter, value)


def dump_plain(value: object, field: str, limit: int, *, masked: bool = False) -> bytes:
    """Return the JSON of a value whose type is not known here: anything that pydantic can dump.

    `masked` lets secrets be written as their masks, as in a result, which nobody runs on.

    Raises:
        PayloadError: it cannot be written, holds a secret or a float that is not finite, or is too large.
    """
    if _is_plain(value):
        return _dump_checked(value, field, limit)
    try:
        plain = to_jsonable_python(value, by_alias=True, inf_nan_mode="constants")
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise _unwritable(field, value, error) from error
    data = _dump_checked(plain, field, limit, _ANYTHING, value)
    if not masked:
        refuse_hidden(data, field, _ANYTHING, value)
    return data


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
    if refuse_non_finite(plain, field) and adapter is not None and value is not None:
        refuse_non_finite(listed_deep(adapter.dump_python(value, by_alias=True, warnings=False)), field)
    try:
        data = dumps(plain)
    except PayloadError as error:
        raise PayloadError(field, plain, error.way_out) from error.__cause__
    if len(data) > limit:
        shown = f"{len(data):,} bytes of JSON"
        raise PayloadError(field, shown, f"give at most {limit:,} bytes, or a reference to where the data lies")
    return data


_ONE_WAY = (
    "; that is how it is written: let the type read what it writes, with one alias for both ways, no field left out, "
    "and no one-way serializer"
)
_ANYTHING: TypeAdapter[Any] = TypeAdapter(Any)


def _types_of(model: object) -> tuple[type, ...]:
    """Return the type of each value in a model."""
    return tuple(map(type, model.__dict__.values()))


def _unwritable(field: str, value: object, error: Exception) -> PayloadError:
    return PayloadError(field, value, f"give something pydantic can write as JSON: {error}")


def _misfit(error: ValidationError, annotation: object, why: str = "") -> PayloadError:
    first: Mapping[str, Any] = cast("Mapping[str, Any]", error.errors(include_url=False, include_context=False)[0])
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
    more = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
    name = getattr(annotation, "__name__", str(annotation))
    return PayloadError(f"payload{where}", first.get("input"), f"it must fit {name}: {first['msg']}{more}{why}")


def _other(change: Change) -> str:
    """Say what a worker would have got, and what to do about it."""
    kind, found = type(change.given), type(change.back)
    if kind is not found and issubclass(kind, found):
        return f"a worker would get a {found.__name__}: declare {kind.__name__}, or a union of all that may come"
    return f"a worker would get {change.back!r:.100}: give that, or declare a type that is read as it is written"
