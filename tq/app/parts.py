"""Which parts a handler works on: one backend for all, or parts of several servers behind the generic commit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, cast

from tq.app.connect import connect
from tq.app.outbox import NoRows, OutboxBackend
from tq.clock import Clock
from tq.errors import ConfigurationError, InvalidInputError, MissingPortError
from tq.manager import AsyncTaskManager
from tq.ports import Backend, EntityProjectionProvider, FlowBarrierProvider, MessageQueue, ShardLeases, TaskStore
from tq.runner.composite import CompositeBackend
from tq.runner.door import listed
from tq.runner.registry import TaskQueuesManager

__all__ = ["REMEMBER", "assemble", "check_kinds", "check_queues", "from_urls"]

REMEMBER = 7 * 86_400.0


def assemble(
    *,
    queue: MessageQueue | None,
    store: TaskStore | None,
    barrier: FlowBarrierProvider | None,
    projections: EntityProjectionProvider | None,
    clock: Clock,
    remember: float = REMEMBER,
) -> tuple[Backend, EntityProjectionProvider | None]:
    """Return the backend that these parts make, and the provider that is to be fed from its outbox, if any.

    Parts that all belong to one backend are that backend, with its atomic commit. A projection provider of the user's
    own never holds up a commit: its rows go by the outbox. One of another server is written to by the commit, and what
    it did not take then goes by the outbox, too. Where none is given, rows are kept
    with the store; where that keeps none, nowhere: an outbox that nobody reads would grow for ever.

    Raises:
        MissingPortError: names the part that was not given.
        ConfigurationError: parts that cannot work together.
    """
    if queue is None:
        raise MissingPortError("queue", "TaskHandler")
    if store is None:
        raise MissingPortError("store", "TaskHandler")
    home = _home(queue)
    needed: Sequence[object] = [part for part in (store, barrier) if part is not None]
    if home is not None and all(_home(part) is home for part in needed):
        if projections is None or _home(projections) is home:
            return home, None
        return OutboxBackend(home), projections
    if projections is None:
        kept_by = _home(store)
        projections = NoRows() if kept_by is None or kept_by.projections is None else kept_by.projections
    near = projections if _home(projections) is not None or isinstance(projections, NoRows) else None
    composite = CompositeBackend(queue, store, barrier, near, clock=clock, remember=remember)
    if isinstance(near, NoRows):
        return composite, None
    return composite if near is projections else OutboxBackend(composite), projections


def _home(part: object) -> Backend | None:
    return cast("Backend | None", getattr(part, "backend", None))


class _Sharded(Protocol):
    """A broker whose readers agree by rows in the store who reads what."""

    shards: ShardLeases | None


def from_urls(
    url: str, *, store: str | None, barrier: str | None, clock: Clock, options: dict[str, Any]
) -> dict[str, Any]:
    """Open what the URLs name and return the parts; equal URLs share one backend.

    `options` are settings of the adapter that the first URL names.
    """
    opened = {url: connect(url, clock=clock, **options)}

    def home(other: str) -> Backend:
        if other not in opened:
            opened[other] = connect(other, clock=clock)
        return opened[other]

    main = opened[url]
    store_home = home(store or url)
    if main is not store_home and getattr(main, "shards", store_home) is None:
        cast("_Sharded", main).shards = getattr(store_home, "shards", None)
    barrier_home = home(barrier or store or url)
    if barrier_home.barrier is None:
        raise ConfigurationError(f"{barrier or store or url} keeps no flows: name another server by barrier=")
    return {"queue": main.queue, "store": store_home.store, "barrier": barrier_home.barrier}


def check_kinds(
    executors: object, async_tasks: object, lifespan: object, queues: object, lifecycle_mode: object
) -> None:
    """Refuse what would fail much later, and far away from here."""
    if not isinstance(executors, TaskQueuesManager):
        raise InvalidInputError("executors", executors, "give a TaskQueuesManager")
    if async_tasks is not None and not isinstance(async_tasks, AsyncTaskManager):
        raise InvalidInputError("async_tasks", async_tasks, "give AsyncTaskManager(max_tasks=…)")
    if lifespan is not None and not callable(lifespan):
        raise InvalidInputError("lifespan", lifespan, "give a function that returns an async context manager")
    if queues is not None:
        names = listed("queues", cast("Iterable[object]", queues), "give a list of names of queues")
        for name in names:
            if not isinstance(name, str) or not name:
                raise InvalidInputError("queues", name, "give names of queues")
    if lifecycle_mode not in ("async", "sync"):
        raise InvalidInputError("lifecycle_mode", lifecycle_mode, 'give "async" or "sync"')


def check_queues(queues: Sequence[str], served: Sequence[str], *, every: bool) -> None:
    """Refuse a worker that could not serve its queues, or that would leave some out unasked (D-87).

    Raises:
        ConfigurationError: nothing is to be served, a queue has no executor, or, where it is to serve every queue, an
            executor was registered on another one after the handler was made.
    """
    if every and (late := [name for name in served if name not in queues]):
        names = ", ".join(late)
        raise ConfigurationError(
            f"executors on {names} were registered after the handler was made: register them before"
        )
    if not queues:
        raise ConfigurationError("there is nothing to run: register an executor, or name queues=…")
    if idle := [name for name in queues if name not in served]:
        raise ConfigurationError(f"no executor is registered on {', '.join(idle)}; with one are: {', '.join(served)}")
