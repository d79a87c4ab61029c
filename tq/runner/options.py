"""What an executor's registration may say about retries, time, crashes, keeping and concurrency."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Any, TypedDict, Unpack

from tq.clock import seconds
from tq.errors import InvalidInputError, RegistrationError
from tq.model import Backoff, Keep

__all__ = ["ExecutorOptions", "OptionArguments", "options_from"]

DAY = 86_400.0


class OptionArguments(TypedDict, total=False):
    """The keyword arguments that `.task`, `.executor` and `.register` take beside `queue=`."""

    retries: int
    backoff: Backoff | float
    timeout: float | timedelta | None
    cancel_grace: float | timedelta
    handoff_timeout: float | timedelta | None
    max_duration: float | timedelta | None
    max_concurrent_async: int | None
    max_crashes: int
    store_on_failure: bool
    store_on_success: bool
    result_ttl: float | timedelta | None
    partition_key: Callable[[Any], str | None] | None
    concurrency: int | None
    multiple: bool
    parallel: bool
    chunk_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorOptions:
    """The options of one executor, checked; durations are seconds."""

    retries: int = 0
    """Most retries after the first attempt, for tasks that do not say."""
    backoff: Backoff = field(default_factory=Backoff)
    timeout: float | None = None
    """Longest attempt; then the body is cancelled and the attempt has failed."""
    cancel_grace: float = 10.0
    """How long a cancelled body may take to end before its attempt is settled without it."""
    handoff_timeout: float | None = None
    """A body not done by then goes on in the `AsyncTaskManager` and frees its slot."""
    max_duration: float | None = None
    """Longest time in the manager, 0 for until its next sweep; absent means the manager's own default."""
    max_concurrent_async: int | None = None
    max_crashes: int = 3
    """Crashes alone that make a dead letter; 0 means at most once."""
    store_on_failure: bool = True
    store_on_success: bool = False
    result_ttl: float = 0.0
    """Seconds for which a result is kept; 0 for not at all."""
    partition_key: Callable[[Any], str | None] | None = None
    """Called with the payload by the producer; what it returns routes the message."""
    concurrency: int | None = None
    """Most bodies at a time in one worker; absent means the handler's concurrency."""
    multiple: bool = False
    parallel: bool = False
    chunk_size: int = 100
    """Sliding window of a parallel executor; largest group of a multi executor."""

    @property
    def keep(self) -> Keep:
        """What is kept of an ending."""
        return Keep(on_failure=self.store_on_failure, on_success=self.store_on_success, result_ttl=self.result_ttl)


def options_from(what: str, **given: Unpack[OptionArguments]) -> ExecutorOptions:
    """Check the options given for the executor `what`.

    Raises:
        RegistrationError: an option is unknown or refused; names the executor, the option, the value and the rule.
    """
    known = {item.name for item in fields(ExecutorOptions)}
    values: dict[str, Any] = dict(given)
    for name in values:
        if name not in known:
            raise RegistrationError(f"{what}: unknown option {name!r}; the options are {', '.join(sorted(known))}")
    try:
        _check_durations(values)
        _check_counts(values)
    except InvalidInputError as error:
        raise RegistrationError(f"{what}: {error}") from error
    for name in ("store_on_failure", "store_on_success", "multiple", "parallel"):
        if name in values and not isinstance(values[name], bool):
            raise RegistrationError(f"{what}: {name} is refused: got {values[name]!r}; give True or False")
    if values.get("multiple") and values.get("parallel"):
        raise RegistrationError(f"{what}: give multiple or parallel: groups run one at a time, or up to concurrency=…")
    key = values.get("partition_key")
    if key is not None and not callable(key):
        raise RegistrationError(f"{what}: partition_key is refused: got {key!r}; give a function of the payload")
    if values.get("handoff_timeout") is not None and (values.get("multiple") or values.get("parallel")):
        raise RegistrationError(f"{what}: handoff_timeout is for executors of one task at a time (HND-01)")
    return ExecutorOptions(**values)


def _check_durations(values: dict[str, Any]) -> None:
    for name in ("timeout", "handoff_timeout", "max_duration"):
        if values.get(name) is not None:
            values[name] = seconds(name, values[name], zero=name == "max_duration")
    if "cancel_grace" in values:
        values["cancel_grace"] = seconds("cancel_grace", values["cancel_grace"])
    if "result_ttl" in values:
        values["result_ttl"] = 0.0 if values["result_ttl"] is None else seconds("result_ttl", values["result_ttl"])
    if isinstance(backoff := values.get("backoff", Backoff()), int | float):
        values["backoff"] = Backoff(base=backoff)
    elif not isinstance(backoff, Backoff):
        raise InvalidInputError("backoff", backoff, "give seconds, or Backoff(base=…, cap=…, jitter=…)")


def _check_counts(values: Mapping[str, Any]) -> None:
    smallest = {"retries": 0, "max_crashes": 0, "concurrency": 1, "chunk_size": 1, "max_concurrent_async": 1}
    for name, least in smallest.items():
        if name not in values or (values[name] is None and name in ("concurrency", "max_concurrent_async")):
            continue
        value = values[name]
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise InvalidInputError(name, value, f"give a whole number, {least} or more")
