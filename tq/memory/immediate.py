"""The queue for scripts and tests: adding a task runs it."""

from __future__ import annotations

from .queue import MemoryQueue

__all__ = ["ImmediateQueue"]


class ImmediateQueue(MemoryQueue):
    """At-least-once, and at once: `TaskHandler.add_tasks` returns when what it added has ended, retries included.

    The queue itself keeps messages like any other; it declares `inline`, and the handler then drains before it returns.
    What is due in more than two minutes waits, as everywhere (D-38), and so does what no executor here knows. Tasks
    added by running tasks join the drain that runs already, so that chains of any length do not nest (D-86).
    """

    name = "immediate"
    guarantees = MemoryQueue.guarantees._replace(inline=True)
