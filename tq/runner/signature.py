"""What an executor wants to be called with, read once from its signature when it is registered."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from typing import Any, NamedTuple

from tq.errors import RegistrationError
from tq.model import MISSING, Task
from tq.runner.variables import bound_in, filled, variables

__all__ = ["Signature", "Source", "read_signature"]


class Source(Enum):
    """Where an argument comes from."""

    PAYLOAD = auto()
    TASK = auto()
    TASKS = auto()
    ACTIONS = auto()
    RESOURCE = auto()


_PAYLOAD_ONLY = (Source.PAYLOAD,)


class Signature(NamedTuple):
    """How to call an executor: one source per argument, in order."""

    sources: tuple[Source, ...]
    resources: tuple[tuple[str, Any], ...]
    """(parameter, type) of what a lifespan must yield, in the order of the RESOURCE sources."""
    payload: Any
    """The annotation that payloads are checked against; Any for none."""
    returns: Any
    """The return annotation; None for a declared None, Any for none."""
    is_async: bool
    default: object = MISSING
    """What a function says its payload is where none is given."""

    @property
    def takes_task(self) -> bool:
        return Source.TASK in self.sources or Source.TASKS in self.sources

    @property
    def takes_actions(self) -> bool:
        return Source.ACTIONS in self.sources

    @property
    def of_payload(self) -> bool:
        """Whether it takes its payload and nothing else, as most functions do."""
        return self.sources == _PAYLOAD_ONLY


def read_signature(
    function: Callable[..., Any], what: str, *, first: Source, actions: type, names: Mapping[str, Any] | None = None
) -> Signature:
    """Read how `function` wants to be called.

    `first` is what an unannotated first argument means: the payload for `.task`, the task for `.executor`, the tasks
    for `on_tasks`. A second argument named `actions`, or annotated so, gets the actions. Every other argument names,
    by its annotation, a resource of the handler's lifespan.

    Raises:
        RegistrationError: it cannot be called so; names the argument.
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError) as error:
        raise RegistrationError(f"{what}: {function!r} cannot be called") from error
    hints = _hints(function, what, names)
    bound = bound_in(function)
    sources: list[Source] = []
    resources: list[tuple[str, Any]] = []
    payload: Any = Any
    default: object = MISSING
    for position, parameter in enumerate(parameters):
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise RegistrationError(f"{what}: *{parameter.name} is refused; name each argument")
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is not parameter.empty:
            continue
        if parameter.kind is parameter.KEYWORD_ONLY:
            raise RegistrationError(f"{what}: the argument {parameter.name!r} must not be keyword-only")
        hint = filled(hints.get(parameter.name, Any), bound)
        source, found = _source(parameter, hint, position, first, actions)
        if source is Source.RESOURCE:
            if parameter.default is not parameter.empty:
                continue
            if hint is Any:
                raise RegistrationError(
                    f"{what}: the argument {parameter.name!r} has no annotation; annotate it with the type of a "
                    "resource that the lifespan yields"
                )
            resources.append((parameter.name, hint))
        elif source is not Source.ACTIONS and (source is first or payload is Any):
            payload = found
        if source is Source.PAYLOAD and parameter.default is not parameter.empty:
            default = parameter.default
        sources.append(source)
    if first is Source.TASK and Source.ACTIONS not in sources:
        raise RegistrationError(f"{what}: it must take (task, actions); use .task for a function of its payload")
    called = _called(function)
    if inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
        raise RegistrationError(f"{what}: it yields, and nobody would run it: let it return a value instead")
    is_async = inspect.iscoroutinefunction(called)
    returns = filled(hints.get("return", Any), bound)
    if isinstance(returns, typing.TypeVar):
        returns = Any
    if left := variables(payload):
        raise RegistrationError(
            f"{what}: nobody says what {left[0]} is, so payloads could not be checked: say it in a class, such as "
            "Mine(Base[Item]), or give the variable a bound"
        )
    returned = None if returns is type(None) else returns
    return Signature(tuple(sources), tuple(resources), payload, returned, is_async, default)


def _source(parameter: inspect.Parameter, hint: Any, position: int, first: Source, actions: type) -> tuple[Source, Any]:
    origin = typing.get_origin(hint) or hint
    if isinstance(origin, type) and issubclass(origin, actions):
        return Source.ACTIONS, None
    if origin is Task:
        arguments = typing.get_args(hint)
        return Source.TASK, arguments[0] if arguments else Any
    if first is Source.TASKS and position == 0:
        arguments = typing.get_args(hint)
        if isinstance(origin, type) and issubclass(origin, Sequence) and arguments:
            inner = typing.get_args(arguments[0])
            return Source.TASKS, inner[0] if typing.get_origin(arguments[0]) is Task and inner else Any
        return Source.TASKS, Any
    if position == 0:
        return first, hint if first is Source.PAYLOAD else Any
    if parameter.name == "actions" and hint is Any:
        return Source.ACTIONS, None
    return Source.RESOURCE, None


def _hints(function: Callable[..., Any], what: str, names: Mapping[str, Any] | None) -> dict[str, Any]:
    try:
        return typing.get_type_hints(_called(function), localns=dict(names) if names else None, include_extras=True)
    except NameError as error:
        raise RegistrationError(f"{what}: an annotation cannot be resolved: {error}") from error


def _called(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function that is called in the end: behind partials, and behind an object that can be called."""
    while isinstance(function, functools.partial):
        function = function.func
    return function if inspect.isroutine(function) else type(function).__call__
