"""Log context: a few short strings that every log line written while a task runs can show (RFC 005).

    check_log_context ─▶ metadata["log_context"] ─▶ bind ─▶ get_log_context ─▶ filter, formatter, logger

The scope is a context variable: it follows awaits, tasks made inside it and calls handed to a thread with a copy of the
context, and ends with the body. tq never touches an application's logging set-up: it offers parts that one may put in.
"""

from __future__ import annotations

import inspect
import json
import logging
import re
from collections.abc import Callable, Coroutine, Generator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from types import MappingProxyType
from typing import Any, Final, Literal, TypeVar, cast, overload

from tq.errors import InvalidInputError

__all__ = [
    "MAX_BYTES",
    "MAX_KEYS",
    "RUNTIME_KEYS",
    "ContextLogger",
    "LogContextFilter",
    "LogContextFormatter",
    "bind",
    "check_log_context",
    "child_logger",
    "get_log_context",
    "log_context",
    "merge",
    "render",
    "reset",
    "run_with_log_context",
]

T = TypeVar("T")

RUNTIME_KEYS: Final = ("task_id", "task_type", "worker_id")
"""Keys that tq sets while a task runs; a user's value under one of these names is stored but not shown (D-60)."""
MAX_KEYS: Final = 10
MAX_BYTES: Final = 1024
"""Of the whole context as compact JSON in UTF-8."""

_NOTHING: Mapping[str, str] = MappingProxyType({})
_scope: ContextVar[Mapping[str, str]] = ContextVar("tq_log_context", default=_NOTHING)


# --- the scope --------------------------------------------------------------------------------------------------------


def get_log_context() -> Mapping[str, str]:
    """Return what is in force here; empty outside every scope (LOG-01)."""
    return _scope.get()


def bind(store: Mapping[str, str]) -> Token[Mapping[str, str]]:
    """Put `store` in force until `reset`; it replaces what was. The caller does not change `store` afterwards."""
    return _scope.set(store)


def reset(token: Token[Mapping[str, str]]) -> None:
    """Put back what was in force before the `bind` that returned this token, in the same task."""
    _scope.reset(token)


@contextmanager
def log_context(store: Mapping[str, str]) -> Generator[None]:
    """Put `store` in force for a `with` block; a nested block replaces it, then restores it (LOG-01)."""
    token = bind(dict(store))
    try:
        yield
    finally:
        reset(token)


@overload
def run_with_log_context(
    store: Mapping[str, str], fn: Callable[[], Coroutine[Any, Any, T]]
) -> Coroutine[Any, Any, T]: ...
@overload
def run_with_log_context(store: Mapping[str, str], fn: Callable[[], T]) -> T: ...
def run_with_log_context(store: Mapping[str, str], fn: Callable[[], Any]) -> Any:
    """Call `fn` with `store` in force; what a coroutine function returns keeps it through its awaits (LOG-01)."""
    with log_context(store):
        result = fn()
    return _within(dict(store), result) if inspect.iscoroutine(result) else result


async def _within(store: Mapping[str, str], work: Coroutine[Any, Any, T]) -> T:
    with log_context(store):
        return await work


# --- the context of a task --------------------------------------------------------------------------------------------


def check_log_context(
    context: object, field: str = "metadata.log_context"
) -> tuple[Mapping[str, str] | None, list[str]]:
    """Check a context at submission; return what is kept of it, and warnings that the caller logs with the task's id.

    More than `MAX_KEYS` keys: the alphabetically first are kept (LOG-10). Larger than `MAX_BYTES` after that: all of it
    is dropped, and None is returned (LOG-11, D-60). Otherwise it is unchanged (LOG-12).

    Raises:
        InvalidInputError: it is no mapping of strings to strings; the error names the key.
    """
    if not isinstance(context, Mapping):
        raise InvalidInputError(field, context, "give a mapping of strings to strings")
    given = cast("Mapping[object, object]", context)
    kept: dict[str, str] = {}
    for key, value in given.items():
        if not isinstance(key, str):
            raise InvalidInputError(field, key, "give keys that are strings")
        if not isinstance(value, str):
            raise InvalidInputError(f"{field}[{key!r}]", value, "give a string, such as str(value)")
        kept[key] = value
    warnings: list[str] = []
    if len(kept) > MAX_KEYS:
        names = sorted(kept)
        kept = {name: kept[name] for name in names[:MAX_KEYS]}
        cut = ", ".join(names[MAX_KEYS : MAX_KEYS + 5])
        warnings.append(f"log_context has {len(names)} keys, {MAX_KEYS} are kept; cut: {cut}{' …' * (len(names) > 15)}")
    size = _size(kept, field)
    if size > MAX_BYTES:
        warnings.append(f"log_context takes {size} bytes as JSON, {MAX_BYTES} are allowed; it is dropped")
        return None, warnings
    return kept, warnings


def _size(context: Mapping[str, str], field: str) -> int:
    try:
        return len(json.dumps(context, ensure_ascii=False, separators=(",", ":")).encode())
    except UnicodeEncodeError as error:
        raise InvalidInputError(field, dict(context), f"give text that is UTF-8: {error}") from error


def merge(parent: Mapping[str, str] | None, child: Mapping[str, str] | None) -> Mapping[str, str]:
    """Return the context of a child: the parent's keys are defaults, the child's own win (ACT-05)."""
    if not parent:
        return child or _NOTHING
    return {**parent, **child} if child else parent


# --- how it is written ------------------------------------------------------------------------------------------------

_UNSAFE = re.compile(r"[\x00-\x1f\x7f\]]")


def render(context: Mapping[str, str]) -> str:
    """Return ` [key:value]` groups by key; nothing in a value can end its group or start a line (LOG-14)."""
    return "".join(f" [{_UNSAFE.sub('_', key)}:{_UNSAFE.sub('_', context[key])}]" for key in sorted(context))


class LogContextFilter(logging.Filter):
    """Gives each record `log_context` (the groups, as text) and `log_fields` (the same as a mapping).

    Put it on a handler and write `%(log_context)s` into its format. The text is empty where the message shows the
    context already, as those of `actions.log` do. It lets every record pass.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        fields = _fields(record)
        record.log_fields = fields
        record.log_context = "" if _shown(record) else render(fields)
        return True


class LogContextFormatter(logging.Formatter):
    """Writes the prefix in brackets, then the context, then the message (LOG-14, LOG-15).

    All three take the place of `%(message)s` in the format, which is nothing else unless given.
    """

    def __init__(
        self,
        fmt: str | None = None,
        datefmt: str | None = None,
        style: Literal["%", "{", "$"] = "%",
        *,
        prefix: str = "",
    ) -> None:
        super().__init__(fmt, datefmt, style)
        self.prefix = prefix

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 -- the name is the standard library's
        message = record.message
        context = "" if _shown(record) else render(_fields(record))
        record.message = _line(self.prefix, context, message)
        try:
            return super().formatMessage(record)
        finally:
            record.message = message  # other handlers see the same record


def _line(prefix: str, context: str, message: str) -> str:
    head = f"[{prefix}]" if prefix and not prefix.startswith("[") else prefix
    return f"{head}{context} {message}".lstrip(" ") if head or context else message


def _fields(record: logging.LogRecord) -> Mapping[str, str]:
    """Return the context of a record: what its logger gave it, else what is in force."""
    own: Mapping[str, str] | None = getattr(record, "log_fields", None)
    return get_log_context() if own is None else own


def _shown(record: logging.LogRecord) -> bool:
    return bool(getattr(record, "log_context_shown", False))


# --- loggers ----------------------------------------------------------------------------------------------------------


class ContextLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger with a context of its own, written before each message; see `child_logger`.

    Nothing of the context is looked at for a level that is switched off (LOG-16).
    """

    def __init__(
        self, logger: logging.Logger, own: Mapping[str, str], runtime: Mapping[str, str], prefix: str = ""
    ) -> None:
        super().__init__(logger, {})
        self.own = own
        self.runtime = runtime
        self.prefix = prefix

    def child(self, context: Mapping[str, str]) -> ContextLogger:
        """Return a logger with more context; this one does not get it (LOG-15)."""
        return ContextLogger(self.logger, {**self.own, **context}, self.runtime, self.prefix)

    def fields(self) -> Mapping[str, str]:
        """Return what a line shows now: what is in force, over it our own, over all what tq set (LOG-15, D-60)."""
        ambient = get_log_context()
        protected = {key: ambient[key] for key in RUNTIME_KEYS if key in ambient}
        return {**ambient, **self.own, **protected, **self.runtime}

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        if not self.isEnabledFor(level):
            return
        fields = self.fields()
        text = _line(self.prefix, render(fields), "")
        extra: MutableMapping[str, Any] = dict(kwargs.get("extra") or {})
        extra.update(log_fields=fields, log_context_shown=True)
        kwargs["extra"] = extra
        kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1  # the caller's line is wanted, not this one
        head = text.replace("%", "%%") if args else text  # without arguments logging leaves % alone
        line = f"{head}{msg}"
        self.logger.log(level, line, *args, **kwargs)


def child_logger(
    context: Mapping[str, str],
    runtime: Mapping[str, str] | None = None,
    *,
    parent: logging.Logger | ContextLogger | None = None,
    prefix: str = "",
) -> ContextLogger:
    """Return a logger that writes `[prefix] [key:value] … message`, whatever formats the record (LOG-13, LOG-15).

    Args:
        context: keys that this logger adds; they win over those in force, never over what tq set.
        runtime: what tq knows about the execution; wins over everything (D-60).
        parent: writes to this logger, `tq.task` by default; of a `ContextLogger` its context is taken along too.
        prefix: put in brackets before everything.
    """
    if isinstance(parent, ContextLogger):
        own, protected = {**parent.own, **context}, {**(runtime or {}), **parent.runtime}
        return ContextLogger(parent.logger, own, protected, prefix or parent.prefix)
    return ContextLogger(parent or logging.getLogger("tq.task"), context, runtime or _NOTHING, prefix)
