"""Events: what observers are told, made once, told in order, and never in the way of a task.

`Events` is the one hub. A worker asks its `wants_…` first and calls it after the hop that made something true. Each
provider is told by a task of its own; what it raises stops there. `ConsoleHealthProvider` prints a line per event.
"""

from .console import ConsoleHealthProvider
from .hub import Events

__all__ = ["ConsoleHealthProvider", "Events"]
