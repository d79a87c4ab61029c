"""The values that travel through tq: frozen, without behaviour beyond their own arithmetic.

Task (what users write) → Message (a task on its way) → Delivery (handed out under a lease) → Outcome → Effects →
Settlement → Batch → Hop. A room that needs a new kind of value declares it here; nothing in here reads the time,
a server or the event loop.
"""

from tq.model.effects import (
    NO_EFFECTS,
    Batch,
    Chunk,
    Effects,
    Ending,
    Hold,
    Hop,
    Outgoing,
    Record,
    Remove,
    Resolve,
    Settlement,
)
from tq.model.ended import Ended, Keep
from tq.model.entity import Entity, Projection, projection_version
from tq.model.flow import Flow, FlowState, Mark, Reopen, StepResult, decide
from tq.model.message import Claim, Delivery, Message, Place, Rearm, Receipt, Renewal, State, Whereabouts
from tq.model.outcome import SUCCEEDED, Deferred, Failed, Outcome, Released, Rescheduled, Succeeded
from tq.model.plan import FailurePolicy, FlowOptions, FlowRequest, FlowStep, Join, Member, Tolerance, quorum, tolerate
from tq.model.projection import build_projection, ending_projection
from tq.model.retry import Backoff, attempts_left, retry_count, retry_delay
from tq.model.shard import ShardLease
from tq.model.status import StepStatus, TaskStatus, Verdict
from tq.model.task import MISSING, Missing, Task

__all__ = [
    "MISSING",
    "NO_EFFECTS",
    "SUCCEEDED",
    "Backoff",
    "Batch",
    "Chunk",
    "Claim",
    "Deferred",
    "Delivery",
    "Effects",
    "Ended",
    "Ending",
    "Entity",
    "Failed",
    "FailurePolicy",
    "Flow",
    "FlowOptions",
    "FlowRequest",
    "FlowState",
    "FlowStep",
    "Hold",
    "Hop",
    "Join",
    "Keep",
    "Mark",
    "Member",
    "Message",
    "Missing",
    "Outcome",
    "Outgoing",
    "Place",
    "Projection",
    "Rearm",
    "Receipt",
    "Record",
    "Released",
    "Remove",
    "Renewal",
    "Reopen",
    "Rescheduled",
    "Resolve",
    "Settlement",
    "ShardLease",
    "State",
    "StepResult",
    "StepStatus",
    "Succeeded",
    "Task",
    "TaskStatus",
    "Tolerance",
    "Verdict",
    "Whereabouts",
    "attempts_left",
    "build_projection",
    "decide",
    "ending_projection",
    "projection_version",
    "quorum",
    "retry_count",
    "retry_delay",
    "tolerate",
]
