"""Which parts a handler works on: one backend for all, or parts of several servers behind the generic commit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from tq.app.connect import connect
from tq.app.outbox import OutboxBackend
from tq.clock import Clock
from tq.errors import ConfigurationError, MissingPortError
from tq.ports import Backend, EntityProjectionProvider, FlowBarrierProvider, MessageQueue, TaskStore
from tq.runner.composite import CompositeBackend

__all__ = ["assemble", "from_urls"]

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

    Parts that all belong to one backend are that backend, with its atomic commit. A projection provider of another
    server, or of the user's own, never holds up a commit: its rows go by the outbox.

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
    near = projections if _home(projections) is not None else None
    composite = CompositeBackend(queue, store, barrier, near, clock=clock, remember=remember)
    if near is projections:
        return composite, None
    return OutboxBackend(composite), projections


def _home(part: object) -> Backend | None:
    return cast("Backend | None", getattr(part, "backend", None))


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
    barrier_home = home(barrier or store or url)
    if barrier_home.barrier is None:
        raise ConfigurationError(f"{barrier or store or url} keeps no flows: name another server by barrier=")
    return {"queue": main.queue, "store": store_home.store, "barrier": barrier_home.barrier}
