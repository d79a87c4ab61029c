"""The errors of tq, drawn as one tree; every error carries its data as attributes and keeps its cause.

TqError
├── InvalidInputError (ValueError)     refused at the door: field, value, way out
│   └── PayloadError                   a payload that does not fit, cannot be dumped, or is too large
├── ConfigurationError                 parts that do not fit together
│   ├── MissingPortError               a part that a feature needs was not given
│   ├── MissingExtraError              a driver that is not installed
│   └── RegistrationError              an executor that cannot be registered as asked
├── WireError                          bytes that are no task of ours
│   └── UnknownFormatError             a format number that this version does not know
├── ExecutionError                     what an execution can end with
│   ├── NonRetryableError              raised by executors: do not try this again
│   ├── NoOutcomeError                 an executor that takes actions returned without an outcome
│   ├── AttemptTimeoutError            the attempt took longer than its timeout
│   ├── HungTaskError                  a long task exceeded its longest duration and was swept
│   ├── CrashedError                   the worker died too often with this task alone
│   ├── UnknownTypeError               no worker knew the task's type within the grace time
│   └── ActionsRevokedError            actions used after their attempt was settled
├── BackendError                       what a server, or a file, answers
│   ├── BackendUnavailableError        trying again may help
│   │   └── DatabaseLockedError        another process holds the write lock for too long
│   ├── ContentRefusedError            the server refuses this very content, whoever sends it
│   ├── DatabaseGoneError              what was opened is not there any more, or is another one now
│   ├── DatabaseFullError              no room is left where the data lives
│   ├── ReadOnlyDatabaseError          the place cannot be written to
│   └── ForeignDatabaseError           the place belongs to another program, or to a newer tq
├── AddTasksError                      some tasks of one call were not accepted: which, and why
├── TaskError
│   ├── UnknownTaskError               nothing is stored under this id
│   ├── ResultNotKeptError             the task ended, its result was not kept
│   ├── TaskFailedError                the task ended by failure: its error
│   └── TaskCancelledError             the task was cancelled
└── FlowError
    ├── UnknownFlowError               nothing is stored under this id
    └── FlowStateError                 the flow's state does not allow this
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = [
    "ActionsRevokedError",
    "AddTasksError",
    "AttemptTimeoutError",
    "BackendError",
    "BackendUnavailableError",
    "ConfigurationError",
    "ContentRefusedError",
    "CrashedError",
    "DatabaseFullError",
    "DatabaseGoneError",
    "DatabaseLockedError",
    "ExecutionError",
    "FlowError",
    "FlowStateError",
    "ForeignDatabaseError",
    "HungTaskError",
    "InvalidInputError",
    "MissingExtraError",
    "MissingPortError",
    "NoOutcomeError",
    "NonRetryableError",
    "PayloadError",
    "ReadOnlyDatabaseError",
    "RegistrationError",
    "ResultNotKeptError",
    "TaskCancelledError",
    "TaskError",
    "TaskFailedError",
    "TqError",
    "UnknownFlowError",
    "UnknownFormatError",
    "UnknownTaskError",
    "UnknownTypeError",
    "WireError",
]


class TqError(Exception):
    """The root of every error that tq raises on purpose."""


class InvalidInputError(TqError, ValueError):
    """A value that is refused at the door.

    Attributes:
        field: the name of what was wrong, as the caller wrote it.
        value: the offending value, unchanged.
        way_out: what to give instead.
    """

    def __init__(self, field: str, value: object, way_out: str) -> None:
        self.field = field
        self.value = value
        self.way_out = way_out
        try:
            shown = repr(value)
        except Exception:  # noqa: BLE001 -- nested too deeply, or a repr of the user's own: the refusal comes first
            shown = f"a {type(value).__name__} that cannot be shown"
        if len(shown) > 200:
            shown = f"{shown[:200]}… ({len(shown)} characters)"
        super().__init__(f"{field} is refused: got {shown}; {way_out}")

    def __reduce__(self) -> tuple[type[InvalidInputError], tuple[str, object, str]]:
        return type(self), (self.field, self.value, self.way_out)


class PayloadError(InvalidInputError):
    """A payload, or a result, that does not fit its type, cannot be dumped, or is too large."""


class ConfigurationError(TqError):
    """Parts that do not fit together; raised before anything runs."""


class MissingPortError(ConfigurationError):
    """A part that a feature needs was not given.

    Attributes:
        port: the constructor argument that is missing.
    """

    def __init__(self, port: str, needed_for: str) -> None:
        self.port = port
        super().__init__(f"{needed_for} needs {port}=…, which was not given")


class MissingExtraError(ConfigurationError):
    """A driver that is not installed.

    Attributes:
        extra: the extra that brings it.
    """

    def __init__(self, extra: str) -> None:
        self.extra = extra
        super().__init__(f"the {extra} adapter needs its driver: pip install 'tq-tasks[{extra}]'")


class RegistrationError(ConfigurationError):
    """An executor that cannot be registered as asked; says which, and what is wrong."""


class WireError(TqError):
    """Bytes that are no task of ours.

    Attributes:
        raw: the bytes, unchanged.
    """

    def __init__(self, message: str, raw: bytes) -> None:
        self.raw = raw
        super().__init__(message)


class UnknownFormatError(WireError):
    """A format number that this version does not know: a newer worker may.

    Attributes:
        version: the number found.
    """

    def __init__(self, version: object, raw: bytes) -> None:
        self.version = version
        super().__init__(f"wire format {version!r} is not known to this version of tq", raw)


class ExecutionError(TqError):
    """What an execution can end with, besides the executor's own exceptions."""


class NonRetryableError(ExecutionError):
    """Raise it in an executor to fail the task for good: no retry is made."""


class NoOutcomeError(ExecutionError):
    """An executor that takes actions returned without recording an outcome (D-07, D-08, D-09)."""


class AttemptTimeoutError(ExecutionError):
    """The attempt took longer than the executor's `timeout`."""


class HungTaskError(ExecutionError):
    """A long task exceeded `max_duration` and was swept (ATM-05, D-22)."""


class CrashedError(ExecutionError):
    """The worker died `max_crashes` times while this task ran alone."""


class UnknownTypeError(ExecutionError):
    """No worker knew the task's type, queue or format within `unknown_grace`."""


class ActionsRevokedError(ExecutionError):
    """The actions of an attempt were used after that attempt was settled."""


class BackendError(TqError):
    """What a server, or a file, answers."""


class BackendUnavailableError(BackendError):
    """The server cannot be reached or is busy; the same call may succeed later."""


class DatabaseLockedError(BackendUnavailableError):
    """Another process held the write lock for longer than the busy timeout."""


class ContentRefusedError(BackendError):
    """The server refuses this very content, whoever sends it and however often."""


class DatabaseFullError(BackendError):
    """No room is left where the data lives."""


class ReadOnlyDatabaseError(BackendError):
    """The place cannot be written to."""


class DatabaseGoneError(BackendError):
    """What was opened is not there any more, or another one is in its place: only opening it anew helps."""


class ForeignDatabaseError(BackendError):
    """The place belongs to another program, or to a newer version of tq."""


class AddTasksError(TqError):
    """Some tasks of one call were not accepted.

    Attributes:
        failed: task id → the error that refused it; ids absent here were accepted.
    """

    def __init__(self, failed: Mapping[str, Exception], accepted: int) -> None:
        self.failed = dict(failed)
        self.accepted = accepted
        shown = "; ".join(f"{task_id}: {error}" for task_id, error in list(self.failed.items())[:5])
        more = f" and {len(self.failed) - 5} more" if len(self.failed) > 5 else ""
        super().__init__(f"{len(self.failed)} tasks were not accepted, {accepted} were: {shown}{more}")


class TaskError(TqError):
    """About one task.

    Attributes:
        task_id: which.
    """

    def __init__(self, task_id: str, message: str) -> None:
        self.task_id = task_id
        super().__init__(message)


class UnknownTaskError(TaskError):
    """Nothing is stored under this id: never added, or ended without a trace being kept."""


class ResultNotKeptError(TaskError):
    """The task ended, but its result was not kept."""


class TaskFailedError(TaskError):
    """The task ended by failure; the message is the task's last error."""


class TaskCancelledError(TaskError):
    """The task was cancelled."""


class FlowError(TqError):
    """About one flow.

    Attributes:
        flow_id: which.
    """

    def __init__(self, flow_id: str, message: str) -> None:
        self.flow_id = flow_id
        super().__init__(message)


class UnknownFlowError(FlowError):
    """Nothing is stored under this id."""


class FlowStateError(FlowError):
    """The flow's state does not allow what was asked."""
