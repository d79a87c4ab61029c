"""What an executor says while it runs: outcomes, children, flows. Recorded here, decided and written elsewhere.

An `Attempt` is the record of one task's execution; `Actions` is the face of one attempt, or of a group of them.
"""

from __future__ import annotations

import traceback
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import timedelta
from logging import LoggerAdapter
from typing import Any, Unpack, cast

from tq.clock import seconds
from tq.codec import loads
from tq.errors import ActionsRevokedError, InvalidInputError, NonRetryableError, PayloadError
from tq.ids import flow_id
from tq.logcontext import child_logger, merge
from tq.model import (
    MISSING,
    SUCCEEDED,
    Deferred,
    Failed,
    FlowOptions,
    FlowRequest,
    FlowStep,
    Join,
    Message,
    Missing,
    Outcome,
    Rescheduled,
    Succeeded,
    Task,
    TaskStatus,
)
from tq.runner.door import MAX_RESULT, dump_plain, listed
from tq.runner.outside import Outside
from tq.runner.request import flow_request

__all__ = ["MAX_CHILDREN", "Actions", "Attempt", "failed_by", "words_of"]

MAX_CHILDREN = 1_000
MAX_ERROR = 16_384
"""Characters of an error that are kept: its first, and the last of its stack."""


class Attempt:
    """What one execution of one task has said so far."""

    __slots__ = ("calls", "children", "flows", "occurrences", "outcome", "revoked", "task")

    def __init__(self, task: Task[Any]) -> None:
        self.task = task
        self.outcome: Outcome | None = None
        self.children: list[Message] = []
        self.flows: dict[str, FlowRequest] = {}
        self.occurrences: dict[bytes, int] = {}
        self.calls = 0
        self.revoked = False

    def record(self, outcome: Outcome, log: Any) -> None:
        """Keep the first outcome; later ones are refused with a warning (D-10)."""
        if self.outcome is None:
            self.outcome = outcome
        else:
            log.warning("task %s has an outcome already; %s is ignored", self.task.id, type(outcome).__name__)


class Actions:
    """Through it an executor says how its task ended and what follows.

    Nothing is written until the attempt ends. What was said before an exception stands if an outcome was among it; an
    attempt without one drops everything it said. After the attempt is settled every call raises `ActionsRevokedError`.

    A multi executor is given the actions of its whole group: what it adds or starts through them becomes real with the
    group's first task, and inherits no log context, there being no single parent (ACT-05).
    """

    def __init__(
        self,
        attempts: Mapping[str, Attempt],
        current: Attempt,
        outside: Outside,
        consumer_id: str,
        *,
        of_group: bool = False,
    ) -> None:
        self._attempts = attempts
        self._current = current
        self._outside = outside
        self.consumer_id = consumer_id
        self._of_group = of_group
        self._log: LoggerAdapter[Any] | None = None

    @property
    def worker_id(self) -> str:
        return self._outside.worker_id

    @property
    def log(self) -> LoggerAdapter[Any]:
        """A logger that puts the task's log context before each message; a group's only what tq knows (LOG-13)."""
        if self._log is None:
            task = self._current.task
            if self._of_group:
                self._log = child_logger({}, {"task_type": task.type, "worker_id": self.worker_id})
            else:
                runtime = {"task_id": task.id, "task_type": task.type, "worker_id": self.worker_id}
                self._log = child_logger(task.log_context, runtime)
        return self._log

    def fork_for_task(self, task: Task[Any]) -> Actions:
        """Return the actions of one task of a group."""
        return Actions(self._attempts, self._attempt(task), self._outside, self.consumer_id)

    # --- outcomes -------------------------------------------------------------------------------------------------

    def success(self, task: Task[Any], result: object | Missing = MISSING) -> None:
        """Record that the task succeeded; a result is kept as the executor's options say.

        A result that cannot be written, or is larger than 256 KiB, is dropped with a warning; the task still succeeds
        and its `execution_stats` tell (RES-05, RES-06).
        """
        self._attempt(task).record(self._succeeded(task, result), self.log)

    def success_when(self, flow_id: str) -> None:
        """Let the task end when this flow does, as its join ends.

        Raises:
            InvalidInputError: the flow was not started by this execution.
        """
        attempt = self._live(self._current)
        if flow_id not in attempt.flows:
            raise InvalidInputError("flow_id", flow_id, "start the flow in this execution, then name it here")
        attempt.record(Deferred(flow_id), self.log)

    def fail(
        self, task: Task[Any], error: BaseException | str | None = None, meta: Mapping[str, Any] | None = None
    ) -> None:
        """Record that the attempt failed; it is retried while retries are left, unless `error` is non-retryable.

        `meta` is merged into `execution_stats`; keys that tq itself writes there are left out (D-60).
        """
        checked: dict[str, Any] = {}
        if meta:
            if not isinstance(meta, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance] -- users pass anything
                raise InvalidInputError("meta", meta, "give a mapping")
            checked = loads(dump_plain(dict(meta), "meta", MAX_RESULT))  # plain values: they are merged into JSON
        self._attempt(task).record(failed_by(error, checked), self.log)

    def reschedule(self, delay: float | timedelta) -> None:
        """Run the task again after `delay` seconds; no retry is consumed, the attempt number stays."""
        self._live(self._current).record(Rescheduled(seconds("delay", delay)), self.log)

    def get_task_result_status(self, task: Task[Any]) -> str:
        """Return "success", "fail", "rescheduled", "deferred" or "pending" (ACT-02)."""
        match self._attempt(task).outcome:
            case Succeeded():
                return "success"
            case Failed():
                return "fail"
            case Rescheduled():
                return "rescheduled"
            case Deferred():
                return "deferred"
            case _:
                return "pending"

    # --- what follows ---------------------------------------------------------------------------------------------

    def add_tasks(self, tasks: Iterable[Task[Any]]) -> list[str]:
        """Add child tasks; they become real with this attempt's ending, and inherit its log context (ACT-05).

        Returns:
            Their ids: given, or derived from this task, so that saying it twice adds nothing.

        Raises:
            InvalidInputError: more than 1,000 children, or one of them is refused.
        """
        attempt = self._live(self._current)
        tasks = listed("tasks", tasks, "give a list of tasks")
        if len(attempt.children) + len(tasks) > MAX_CHILDREN:
            count = len(attempt.children) + len(tasks)
            raise InvalidInputError("tasks", count, f"add at most {MAX_CHILDREN} children, or start a flow")
        inherit = not self._of_group
        messages = [self._outside.child(task, attempt.task, attempt.occurrences, inherit=inherit) for task in tasks]
        attempt.children += messages
        return [message.id for message in messages]

    def start_flow(
        self,
        steps: Sequence[FlowStep],
        *,
        join: Join,
        **options: Unpack[FlowOptions],
    ) -> str:
        """Start steps that run side by side, and a join that runs once, when each of them has an entry.

        The flow becomes real with this attempt's ending. Its id is derived from this task and `key` (by default the
        number of this call), so an attempt that is repeated starts the same flow, not a second one.

        Args:
            steps: the members.
            join: the task that runs once every member has an entry.
            options: `FlowOptions`: failure_policy, tolerate, quorum, cancel_siblings, timeout, entity, key.

        Returns:
            The flow's id.

        Raises:
            InvalidInputError: a step, the join, the policy or the timeout is refused; nothing was started.
        """
        attempt = self._live(self._current)
        task = attempt.task
        key = options.get("key")
        name = f"#{attempt.calls}" if key is None else key
        attempt.calls += 1
        request = flow_request(
            self._outside,
            flow_id(task.id, task.born, task.generation, name),
            steps,
            join,
            options,
            log_context={} if self._of_group else merge(task.log_context, {}),
            consumer_id=self.consumer_id,
        )
        before = attempt.flows.setdefault(request.id, request)
        if before is not request and before.digest != request.digest:
            self.log.warning(
                "flow %s was started already under key %r, with another plan; nothing changes", request.id, name
            )
        return request.id

    def flow_results(self, task: Task[Any]) -> AsyncIterator[Mapping[str, Any]]:
        """Stream the entries of the flow that `task` joins, by index: `step_index`, `status`, `result`, `error`."""
        return self._outside.flow_results(task)

    # --- inside ---------------------------------------------------------------------------------------------------

    def _attempt(self, task: Task[Any]) -> Attempt:
        attempt = self._attempts.get(task.id)
        if attempt is None:
            raise InvalidInputError("task", task.id, "name a task of this execution")
        return self._live(attempt)

    def _live(self, attempt: Attempt) -> Attempt:
        if attempt.revoked:
            raise ActionsRevokedError(f"the attempt of task {attempt.task.id} is settled; its actions have no effect")
        return attempt

    def _succeeded(self, task: Task[Any], result: object | Missing) -> Succeeded:
        if isinstance(result, Missing):
            return SUCCEEDED
        try:
            return Succeeded(dump_plain(result, "result", MAX_RESULT, masked=True))
        except PayloadError as error:
            self.log.warning("the result of task %s is dropped: %s", task.id, error)
            return Succeeded(None, dropped=str(error))


def leaves(error: BaseException) -> list[BaseException]:
    """Return what stands behind an exception: of a group, however nested, the exceptions in it; else itself."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    group = cast("BaseExceptionGroup[BaseException]", error)
    return [leaf for one in group.exceptions for leaf in leaves(one)]


def failed_by(error: BaseException | str | None, meta: Mapping[str, Any] | None = None) -> Failed:
    """Return the failure that an exception, or a text, amounts to; final if any leaf of a group wants no retry."""
    if error is None or isinstance(error, str):
        return Failed(_kept(error or ""), meta=meta or {})
    stack = "".join(traceback.format_exception(error))
    return Failed(
        words_of(error) or type(error).__name__,
        stack=_text(stack[-MAX_ERROR:]),
        meta=meta or {},
        final=any(isinstance(leaf, NonRetryableError) for leaf in leaves(error)),
        status=TaskStatus.FAILED,
        exception=error,
    )


def words_of(error: BaseException) -> str:
    """Return what an exception says, as far as it is kept; never raises, whatever the exception is made of.

    A group says how many there were; what each of them says stands behind it.
    """
    try:
        behind = leaves(error)
        if behind == [error]:
            return _kept(str(error))
        said = "; ".join(f"{type(leaf).__name__}: {words_of(leaf)}" for leaf in behind)
        return _kept(f"{error}: {said}")
    except Exception as again:  # noqa: BLE001 -- its own `__str__` is at fault, and a task must have an end
        return f"{type(error).__name__}, and then {type(again).__name__} when asked what it says"


def _kept(words: str) -> str:
    """Return the first words of an error: what it is stands there, and a record is no place for the rest."""
    return _text(words if len(words) <= MAX_ERROR else f"{words[: MAX_ERROR - 1]}…")


def _text(words: str) -> str:
    """Return words that can be stored: the name of a file may hold half a character, and errors tell of files."""
    return words if words.isascii() else words.encode("utf-8", "backslashreplace").decode()
