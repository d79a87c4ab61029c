"""Flows: many steps, one join, decided once (RFC 002).

    start_flow ─▶ plan ─▶ members + barrier + held join ─▶ every ending is a mark ─▶ verdict ─▶ join ─▶ held parent

The barrier owns the truth about a flow; a task's own metadata says which flow it belongs to. `plan`, `ending`, `rows`
and `redrive` are pure; `FlowMiddleware` is their face to a worker. A mark on the last step is only the short cut:
`Reconciler` derives from what is stored what else is to be done, and does it again until it is done.
"""

from .about import About, about
from .close import close_flows, dispatch_joins
from .explain import Explanation, MemberPlace, explain
from .middleware import FlowMiddleware
from .plan import WIDTH, plan_flow, split_wide
from .reconcile import Reconciler, Tick
from .redrive import plan_redrive, redriven
from .results import StepEntry, stream_results
from .rows import again_rows, flow_version, reopened_row, verdict_rows

__all__ = [
    "WIDTH",
    "About",
    "Explanation",
    "FlowMiddleware",
    "MemberPlace",
    "Reconciler",
    "StepEntry",
    "Tick",
    "about",
    "again_rows",
    "close_flows",
    "dispatch_joins",
    "explain",
    "flow_version",
    "plan_flow",
    "plan_redrive",
    "redriven",
    "reopened_row",
    "split_wide",
    "stream_results",
    "verdict_rows",
]
