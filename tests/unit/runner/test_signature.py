"""What an executor wants to be called with is read from its signature."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar, cast

import pytest

from tq.errors import RegistrationError
from tq.model import Task
from tq.runner.actions import Actions
from tq.runner.signature import Signature, Source, read_signature


class Item: ...


class Pool: ...


P = TypeVar("P")
Q = TypeVar("Q")
B = TypeVar("B", bound=Item)
C = TypeVar("C", int, str)


def read(function: Callable[..., Any], first: Source = Source.PAYLOAD) -> Signature:
    return read_signature(function, "executor 'x'", first=first, actions=Actions)


def stripped(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function without its annotations, as many users write theirs."""
    function.__annotations__ = {}
    return function


def test_a_payload_and_its_type() -> None:
    async def typed(payload: Item) -> Pool: ...  # type: ignore[empty-body]
    async def bare(payload: int) -> None: ...
    def nothing() -> None: ...

    assert read(typed) == Signature((Source.PAYLOAD,), (), Item, Pool, is_async=True)
    assert read(stripped(bare)) == Signature((Source.PAYLOAD,), (), Any, Any, is_async=True)
    assert read(nothing) == Signature((), (), Any, None, is_async=False)


def test_a_task_and_the_type_of_its_payload() -> None:
    async def typed(task: Task[Item], actions: Actions) -> None: ...
    async def bare(task: Task, actions: Actions) -> None: ...  # type: ignore[type-arg]
    async def unannotated(task: int, actions: int) -> None: ...

    assert read(typed, Source.TASK).payload is Item
    functions: list[Callable[..., Any]] = [bare, stripped(unannotated)]
    for function in functions:
        signature = read(function, Source.TASK)
        assert signature.sources == (Source.TASK, Source.ACTIONS)
        assert signature.payload is Any
        assert signature.takes_task
        assert signature.takes_actions


def test_the_tasks_of_a_group_and_the_type_of_their_payloads() -> None:
    async def typed(tasks: Sequence[Task[Item]], actions: Actions) -> None: ...
    async def a_list(tasks: list[Task[Item]], actions: Actions) -> None: ...
    async def bare(tasks: int, actions: int) -> None: ...

    functions: list[Callable[..., Any]] = [typed, a_list, stripped(bare)]
    assert [read(function, Source.TASKS).payload for function in functions] == [Item, Item, Any]
    assert read(bare, Source.TASKS).sources == (Source.TASKS, Source.ACTIONS)


def test_what_else_is_asked_for_is_a_resource_unless_it_has_a_default() -> None:
    async def asking(
        payload: int, pool: Pool, actions: Actions, item: Item, limit: int = 5, *, log: bool = False
    ) -> None: ...

    signature = read(asking)
    assert signature.sources == (Source.PAYLOAD, Source.RESOURCE, Source.ACTIONS, Source.RESOURCE)
    assert signature.resources == (("pool", Pool), ("item", Item))


def test_methods_partials_and_callable_objects_are_read_like_functions() -> None:
    class Executor:
        async def on_task(self, task: Task[Item], actions: Actions) -> None: ...

        async def __call__(self, payload: Item) -> None: ...

    async def two(prefix: str, payload: Item) -> None: ...

    executor = Executor()
    assert read(executor.on_task, Source.TASK).payload is Item
    called = read(executor)
    assert (called.payload, called.is_async) == (Item, True)
    for partial in (functools.partial(two, "x"), functools.partial(functools.partial(two, "x"))):
        assert read(partial) == Signature((Source.PAYLOAD,), (), Item, None, is_async=True)
    assert read(functools.partial(executor)).payload is Item


class Base(Generic[P]):
    async def on_task(self, task: Task[P], actions: Actions) -> None: ...


class Middle(Base[list[Q]], Generic[Q, P]):
    """Gives its base another variable, while one of its own bears the name of its base's."""


class Own(Middle[Item, int]): ...


class Further(Own): ...


class Again(Middle[Q, int]): ...


class Bounded(Base[B]): ...


class Choice(Base[C]): ...


GENERIC: list[tuple[Base[Any], Any]] = [
    (Base[Item](), Item),
    (Own(), list[Item]),
    (Further(), list[Item]),
    (Again[Pool](), list[Pool]),
    (Bounded[Any](), Any),
    (Choice[int](), int),
]


@pytest.mark.parametrize(("executor", "payload"), GENERIC)
def test_what_a_variable_stands_for_is_found_through_any_number_of_classes(executor: Base[Any], payload: Any) -> None:
    assert read(executor.on_task, Source.TASK).payload == payload


def test_a_variable_of_which_nobody_says_what_it_is_may_say_so_itself() -> None:
    async def bounded(payload: B) -> B: ...  # type: ignore[empty-body]
    async def chosen(payload: list[C]) -> None: ...

    assert read(bounded).payload is Item
    assert read(chosen).payload == list[int | str]


def test_a_variable_of_which_nobody_says_what_it_is_is_refused() -> None:
    async def generic(task: Task[P], actions: Actions) -> None: ...
    async def several(payload: dict[str, P]) -> P: ...  # type: ignore[empty-body]

    unclear_base: Callable[[], object] = Base
    unclear_again: Callable[[], object] = Again
    unclear: list[tuple[Callable[..., Any], Source]] = [
        (generic, Source.TASK),
        (several, Source.PAYLOAD),
        (cast("Base[Any]", unclear_base()).on_task, Source.TASK),
        (cast("Base[Any]", unclear_again()).on_task, Source.TASK),
    ]
    for function, first in unclear:
        with pytest.raises(RegistrationError, match=r"executor 'x': nobody says what ~[PQ] is"):
            read(function, first)


def test_names_that_live_where_the_decorator_stands_are_found() -> None:
    class Local: ...

    async def typed(payload: Local) -> None: ...

    assert read_signature(typed, "x", first=Source.PAYLOAD, actions=Actions, names=locals()).payload is Local


def test_what_cannot_be_called_so_is_refused_by_name() -> None:
    async def swallowing(payload: int, *rest: int) -> None: ...
    async def anything(payload: int, **rest: int) -> None: ...
    async def keyword(payload: int, *, pool: Pool) -> None: ...
    async def unclear(payload: int, pool: Pool) -> None: ...

    functions: list[tuple[Callable[..., Any], str]] = [
        (swallowing, r"\*rest is refused"),
        (anything, r"\*rest is refused"),
        (keyword, "'pool' must not be keyword-only"),
        (stripped(unclear), "'pool' has no annotation"),
    ]
    for function, words in functions:
        with pytest.raises(RegistrationError, match=f"executor 'x': .*{words}"):
            read(function)

    async def silent(task: Task[Any]) -> None: ...

    with pytest.raises(RegistrationError, match=r"must take \(task, actions\); use \.task"):
        read(silent, Source.TASK)
    with pytest.raises(RegistrationError, match="cannot be called"):
        read(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
