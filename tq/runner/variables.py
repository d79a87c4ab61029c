"""Type variables in an executor's signature, and what its class, or the variable itself, says that they are."""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

__all__ = ["bound_in", "filled", "variables"]

Bound = Mapping[Any, Any]


def bound_in(function: Callable[..., Any]) -> Bound:
    """Return what the variables of a method's own class stand for in the object to which it is bound.

    `class Sub(Base[Item])` says it, through any number of classes, and so does `Base[Item]()`.
    """
    owner: object = getattr(function, "__self__", None)
    kind: type[object] = type(owner)
    if owner is None or issubclass(kind, type):
        return {}
    name = getattr(function, "__name__", "")
    made_as = getattr(owner, "__orig_class__", None)
    said = dict[type, Bound]()
    _collect(kind, {} if made_as is None else _arguments(made_as, {}), said)
    defining = next((cls for cls in kind.__mro__ if name in vars(cls)), kind)
    return said.get(defining, {})


def _collect(cls: type, own: Bound, said: dict[type, Bound]) -> None:
    """Note what each class behind `cls` was given, where the variables of `cls` stand for `own`."""
    if not said.get(cls):
        said[cls] = own
    bases: tuple[Any, ...] = vars(cls).get("__orig_bases__", cls.__bases__)
    for base in bases:
        origin = typing.get_origin(base) or base
        if isinstance(origin, type) and origin not in (object, typing.Generic):
            _collect(origin, _arguments(base, own), said)


def _arguments(alias: Any, own: Bound) -> Bound:
    """Return what `Base[Item]` gives to the variables of `Base`."""
    wanted: tuple[Any, ...] = getattr(typing.get_origin(alias), "__parameters__", ())
    return dict(zip(wanted, (_put(given, own) for given in typing.get_args(alias)), strict=False))


def filled(hint: Any, bound: Bound) -> Any:
    """Return an annotation without variables, where somebody says what they are; a variable may say so itself."""
    known = _put(hint, bound)
    return _put(known, {one: _fallback(one) for one in variables(known)})


def variables(hint: Any) -> tuple[TypeVar, ...]:
    """Return the variables in an annotation."""
    if isinstance(hint, TypeVar):
        return (hint,)
    found = getattr(hint, "__parameters__", ()) if not isinstance(hint, type) or typing.get_args(hint) else ()
    return tuple(one for one in cast("tuple[Any, ...]", found) if isinstance(one, TypeVar))


def _put(hint: Any, values: Bound) -> Any:
    if isinstance(hint, TypeVar):
        return values.get(hint, hint)
    wanted = getattr(hint, "__parameters__", ()) if variables(hint) else ()
    return hint[tuple(values.get(one, one) for one in wanted)] if wanted else hint


def _fallback(variable: TypeVar) -> Any:
    """Return what a variable is where nobody says: its default, its bound, any of its choices, or still itself."""
    if callable(has := getattr(variable, "has_default", None)) and has():
        return cast("Any", variable).__default__
    if variable.__bound__ is not None:
        return variable.__bound__
    if variable.__constraints__:
        return cast("Any", typing.Union)[variable.__constraints__]
    return variable
