"""The registry: which executor runs a type on a queue, and how it is called.

Generic types are checked when an executor is registered and erased here, nowhere else: what leaves is a `Registration`.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, Unpack, cast, overload

from tq.errors import InvalidInputError, RegistrationError
from tq.model import MISSING, Missing, Task
from tq.model.task import TaskOptions, amended
from tq.runner.actions import Actions
from tq.runner.door import Shape
from tq.runner.options import DAY, ExecutorOptions, OptionArguments, options_from
from tq.runner.settle import Policy
from tq.runner.signature import Signature, Source, read_signature

__all__ = [
    "DefaultTaskFunction",
    "ExecutorFunction",
    "Registration",
    "TaskDecorator",
    "TaskFunction",
    "TaskQueuesManager",
]

P = TypeVar("P")
R = TypeVar("R")
A = ParamSpec("A")
E = TypeVar("E", bound=Awaitable[None] | None)
P_in = TypeVar("P_in", contravariant=True)
R_out = TypeVar("R_out", covariant=True)


@dataclass(frozen=True, slots=True, eq=False)
class Registration:
    """One executor as the runner sees it."""

    type: str
    queue: str
    function: Callable[..., Any]
    signature: Signature
    options: ExecutorOptions
    shape: Shape
    result: Shape | None = None
    """How a returned value is written; None where outcomes come through actions, or nothing is returned."""
    target: object = field(default=None, repr=False)
    policy: Policy = field(init=False, repr=False)
    """What its options say about endings, for tasks that say nothing of their own."""
    limit: int | None = field(init=False, repr=False)
    """Most bodies at a time in one worker; None for as many as the handler runs."""
    timed: bool = field(init=False, repr=False)
    """Whether something is due at an instant of its bodies' lives."""
    leaves_nothing: bool = field(init=False, repr=False)
    """Whether nothing is kept of a success without a result."""
    of_payload: bool = field(init=False, repr=False)
    """Whether it takes its payload and nothing else, as most functions do."""
    takes_actions: bool = field(init=False, repr=False)
    keyed: bool = field(init=False, repr=False)
    """Whether it chooses partition keys."""
    load: Callable[[bytes], Any] = field(init=False, repr=False)
    """Checks a payload's JSON into what the executor asked for."""

    def __post_init__(self) -> None:
        options, given = self.options, object.__setattr__
        given(self, "policy", Policy(retries=options.retries, backoff=options.backoff, keep=options.keep))
        given(self, "limit", self._limit())
        given(self, "timed", options.timeout is not None or options.handoff_timeout is not None)
        given(self, "leaves_nothing", not options.keep.on_success)
        given(self, "of_payload", self.signature.of_payload)
        given(self, "takes_actions", self.signature.takes_actions)
        given(self, "load", self.shape.load)
        given(self, "keyed", options.partition_key is not None or hasattr(self.target, "get_partition_key"))

    def _limit(self) -> int | None:
        if self.options.concurrency is not None:
            return self.options.concurrency
        if self.options.parallel:
            return self.options.chunk_size
        if self.options.multiple or self.target is not None:
            return 1  # classes are one at a time unless parallel (EXE-03)
        return None

    def partition_key(self, task: Task[Any], payload: bytes) -> str | None:
        """Return the key that the executor gives a task (ADD-07): its option or its `get_partition_key(task)` says.

        Both see the payload as the executor would: checked into its type.

        Raises:
            InvalidInputError: asking failed, or the answer is no string.
        """
        hook: Callable[[Any], object] | None = self.options.partition_key
        shown: Any = self.shape.load(payload)
        if hook is None:
            hook = getattr(self.target, "get_partition_key", None)
            shown = amended(task, payload=shown)
        what = f"partition_key of {_what(self.type, self.queue)}"
        try:
            key = None if hook is None else hook(shown)
        except Exception as error:
            raise InvalidInputError(
                what, shown, f"it raised {error!r}: let it take every payload of the type"
            ) from error
        if key is not None and not isinstance(key, str):
            raise InvalidInputError(what, key, "let it return a string, or None for no key")
        return key or None


class TaskFunction(Generic[P, A, R]):
    """A function registered with `.task`: still callable, and able to make its own tasks."""

    def __init__(self, function: Callable[Concatenate[P, A], R], registration: Registration) -> None:
        self.function: Callable[..., Any] = function
        self.registration = registration
        self.__doc__ = function.__doc__
        self.__name__ = getattr(function, "__name__", registration.type)
        self.__wrapped__ = function

    @overload
    def __call__(self: TaskFunction[None, [], R]) -> R: ...
    @overload
    def __call__(self, payload: P, /, *args: A.args, **kwargs: A.kwargs) -> R: ...
    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[misc]  # it takes whatever `A` may be
        return self.function(*args, **kwargs)

    @overload
    def task(self: TaskFunction[None, [], R], /, **options: Unpack[TaskOptions]) -> Task[None]: ...
    @overload
    def task(self, payload: P, /, **options: Unpack[TaskOptions]) -> Task[P]: ...
    def task(self, payload: Any = None, /, **options: Unpack[TaskOptions]) -> Task[Any]:
        """Return a task for this executor; `options` are further fields of `Task`."""
        return Task(type=self.registration.type, queue_id=self.registration.queue, payload=payload, **options)


class DefaultTaskFunction(TaskFunction[P, [], R]):
    """A function registered with `.task` that says what its payload is where none is given."""

    @overload
    def __call__(self) -> R: ...
    @overload
    def __call__(self, payload: P, /, *args: Any, **kwargs: Any) -> R: ...
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def task(  # pyright: ignore[reportIncompatibleMethodOverride] -- what the base says of functions of nothing
        self, payload: P | Missing = MISSING, /, **options: Unpack[TaskOptions]
    ) -> Task[P]:
        """Return a task for this executor; `options` are further fields of `Task`."""
        given: Any = self.registration.signature.default if payload is MISSING else payload
        return super().task(given, **options)


class DefaultFunction(Protocol[P_in, R_out]):
    """A function of a payload that has a default."""

    def __call__(self, payload: P_in = ..., /) -> R_out: ...


class TaskDecorator(Protocol):
    """What `.task` returns: takes a function of a payload, or of nothing."""

    @overload
    def __call__(self, function: DefaultFunction[P, R], /) -> DefaultTaskFunction[P, R]: ...  # type: ignore[overload-overlap]  # it may be called with nothing, too, and is none of nothing

    @overload
    def __call__(self, function: Callable[Concatenate[P, A], R], /) -> TaskFunction[P, A, R]: ...

    @overload
    def __call__(self, function: Callable[[], R], /) -> TaskFunction[None, [], R]: ...


class ExecutorFunction(Generic[P, A, E]):
    """A function registered with `.executor`: still callable, and able to make its own tasks."""

    def __init__(self, function: Callable[Concatenate[Task[P], Actions, A], E], registration: Registration) -> None:
        self.function = function
        self.registration = registration
        self.__doc__ = function.__doc__
        self.__name__ = getattr(function, "__name__", registration.type)
        self.__wrapped__ = function

    def __call__(self, task: Task[P], actions: Actions, /, *args: A.args, **kwargs: A.kwargs) -> E:
        return self.function(task, actions, *args, **kwargs)

    def task(self, payload: P, /, **options: Unpack[TaskOptions]) -> Task[P]:
        """Return a task for this executor; `options` are further fields of `Task`."""
        return Task(type=self.registration.type, queue_id=self.registration.queue, payload=payload, **options)


class TaskQueuesManager:
    """Holds the executors of an application, by queue and type (MGR-01 … MGR-04)."""

    def __init__(self) -> None:
        self._executors: dict[tuple[str, str], Registration] = {}
        self._queues: dict[str, None] = {}

    # --- registering ----------------------------------------------------------------------------------------------

    def task(self, type: str, *, queue: str = "default", **options: Unpack[OptionArguments]) -> TaskDecorator:
        """Register a function of its payload; it speaks by return value and exception.

        A declared result other than None is kept for one day unless `result_ttl` says otherwise.
        """
        names = _caller_names()

        def decorate(function: Callable[..., Any]) -> Any:
            what = _what(type, queue)
            signature = read_signature(function, what, first=Source.PAYLOAD, actions=Actions, names=names)
            arguments = dict(options)
            if signature.returns is not None and signature.returns is not Any:
                arguments.setdefault("result_ttl", DAY)
            checked = options_from(what, **cast("OptionArguments", arguments))
            result = None if signature.returns is None else Shape(signature.returns, what)
            shape = Shape(signature.payload, what)
            registration = Registration(type, queue, function, signature, checked, shape, result)
            self._add(registration)
            if signature.default is not MISSING:
                return DefaultTaskFunction[Any, Any](function, registration)
            return TaskFunction[Any, Any, Any](function, registration)

        return cast("TaskDecorator", decorate)

    def executor(
        self, type: str, *, queue: str = "default", **options: Unpack[OptionArguments]
    ) -> Callable[[Callable[Concatenate[Task[P], Actions, A], E]], ExecutorFunction[P, A, E]]:
        """Register a function of (task, actions); it speaks through its actions."""
        names = _caller_names()

        def decorate(function: Callable[..., Any]) -> Any:
            what = _what(type, queue)
            signature = read_signature(function, what, first=Source.TASK, actions=Actions, names=names)
            shape = Shape(signature.payload, what)
            registration = Registration(type, queue, function, signature, options_from(what, **options), shape)
            self._add(registration)
            return ExecutorFunction[Any, Any, Any](function, registration)

        return decorate

    def register(
        self, type: str, executor: object, *, queue: str = "default", **options: Unpack[OptionArguments]
    ) -> None:
        """Register an object with `on_task(task, actions)`, or with `on_tasks(tasks, actions)` for whole groups.

        Options given here win over attributes of the object with the same names (`parallel`, `chunk_size`,
        `default_retries`, `store_on_failure`, `get_partition_key`, …).

        Raises:
            RegistrationError: it has neither method, cannot be called so, or an option is refused.
        """
        what = _what(type, queue)
        arguments = _attributes(executor) | dict(options)
        multiple = bool(arguments.get("multiple", not hasattr(executor, "on_task")))
        method = getattr(executor, "on_tasks" if multiple else "on_task", None)
        if not callable(method):
            raise RegistrationError(f"{what}: {executor!r} has no {'on_tasks' if multiple else 'on_task'} method")
        arguments["multiple"] = multiple
        first = Source.TASKS if multiple else Source.TASK
        signature = read_signature(method, what, first=first, actions=Actions, names=None)
        checked = options_from(what, **cast("OptionArguments", arguments))
        shape = Shape(signature.payload, what)
        self._add(Registration(type, queue, method, signature, checked, shape, target=executor))

    def queue(self, name: str) -> None:
        """Declare a queue that others serve, so that tasks for it are accepted here."""
        if not _is_name(name):
            raise RegistrationError(f"queue: got {name!r}; give a name, no NUL in it")
        self._queues.setdefault(name)

    def _add(self, registration: Registration) -> None:
        if not _is_name(registration.type):
            raise RegistrationError(f"type: got {registration.type!r}; give a name, no NUL in it")
        if registration.options.multiple and registration.target is None:
            what = _what(registration.type, registration.queue)
            raise RegistrationError(f"{what}: multiple is for objects with on_tasks: use .register")
        self.queue(registration.queue)
        pair = registration.queue, registration.type
        before = self._executors.get(pair)
        if before is not None and before.options != registration.options:
            raise RegistrationError(
                f"{_what(registration.type, registration.queue)} is registered already, with other options: "
                f"{_differences(before.options, registration.options)}"
            )
        self._executors[pair] = registration

    # --- asking ---------------------------------------------------------------------------------------------------

    def get_executor(self, queue: str, type: str) -> Registration | None:
        """Return the executor of this type on this queue, or None (MGR-03)."""
        return self._executors.get((queue, type))

    def default_retries(self, queue: str, type: str) -> int:
        """Return how often a task of this type is tried again unless it says so itself."""
        registration = self.get_executor(queue, type)
        return (registration.options if registration is not None else ExecutorOptions()).retries

    def get_queues(self) -> list[str]:
        """Return the queues that are registered or declared, in the order in which they became known."""
        return list(self._queues)

    def served_queues(self) -> list[str]:
        """Return the queues that have an executor here."""
        return list(dict.fromkeys(queue for queue, _ in self._executors))

    def get_task_types_for_queue(self, queue: str) -> list[str]:
        """Return the types registered on this queue; none for an unknown queue (MGR-02)."""
        return [type for name, type in self._executors if name == queue]

    def registrations(self) -> list[Registration]:
        """Return every executor."""
        return list(self._executors.values())


_ATTRIBUTES = {"default_retries": "retries"}


def _attributes(executor: object) -> dict[str, Any]:
    """Read the options that an executor class carries as attributes."""
    found: dict[str, Any] = {}
    for name in OptionArguments.__annotations__:
        if hasattr(executor, name):
            found[name] = getattr(executor, name)
    for name, option in _ATTRIBUTES.items():
        if hasattr(executor, name):
            found[option] = getattr(executor, name)
    return found


def _is_name(name: object) -> bool:
    """Tell whether a name is one; users pass anything. Databases hold no NUL in a text, or end it there."""
    return isinstance(name, str) and bool(name) and "\0" not in name


def _what(type: str, queue: str) -> str:
    return f"executor {type!r} on queue {queue!r}"


def _differences(before: ExecutorOptions, after: ExecutorOptions) -> str:
    names = [name for name in ExecutorOptions.__slots__ if getattr(before, name) != getattr(after, name)]
    return ", ".join(f"{name} was {getattr(before, name)!r}, is {getattr(after, name)!r}" for name in names)


def _caller_names() -> Mapping[str, Any]:
    """Return the local names where a decorator was written: annotations may name classes that only live there."""
    frame = inspect.currentframe()
    caller = frame.f_back.f_back if frame is not None and frame.f_back is not None else None
    return dict(caller.f_locals) if caller is not None else {}
