"""The async task manager: cares for tasks that outlive their turn in the line (RFC 004).

The runner owns custody and outcomes; the manager owns only which bodies run outside the line, how many and how long.

    reserve ──▶ slot ──handoff_task──▶ tracked ──body ends──▶ slot free, completed
                  └─ release              ├─ older than its limit: sweep ──▶ ending: cancelled, settled by `evict`
                                          └─ shutdown, grace over ─────────▶ ending: cancelled, given back by `abandon`
    ending ──body ends──▶ slot free
"""

from tq.manager.async_tasks import AsyncTaskManager
from tq.manager.figures import AsyncTaskMetrics, ShutdownResult
from tq.manager.slots import Slot

__all__ = ["AsyncTaskManager", "AsyncTaskMetrics", "ShutdownResult", "Slot"]
