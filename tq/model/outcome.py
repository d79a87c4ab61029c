"""How an execution ended: values, never exceptions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tq.model.status import TaskStatus

__all__ = ["SUCCEEDED", "Deferred", "Failed", "Outcome", "Released", "Rescheduled", "Succeeded"]


class Succeeded(NamedTuple):
    """The work is done.

    `result` is JSON, or None where none was given (MISSING) or it was dropped; `dropped` says why it was.
    """

    result: bytes | None = None
    dropped: str = ""


SUCCEEDED = Succeeded()
"""A success without a result, as most are: one value for all of them."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt failed; retried while retries are left unless `final`.

    `status` is what the task becomes when nothing follows: failed, expired, ignored or cancelled.
    """

    error: str
    stack: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict[str, Any])
    final: bool = False
    status: TaskStatus = TaskStatus.FAILED
    exception: BaseException | None = None


@dataclass(frozen=True, slots=True)
class Rescheduled:
    """The executor asks to run again after `delay` seconds; no retry is consumed."""

    delay: float


@dataclass(frozen=True, slots=True)
class Deferred:
    """The task ends when this flow does (`success_when`)."""

    flow_id: str


@dataclass(frozen=True, slots=True)
class Released:
    """Given back unrun: shutdown, or a type, queue or format that this worker does not know. Counts as nothing."""

    delay: float = 0.0
    unknown: bool = False
    reason: str = ""


Outcome = Succeeded | Failed | Rescheduled | Deferred | Released
