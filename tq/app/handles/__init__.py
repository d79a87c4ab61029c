"""Handles: what one may ask of one task, one flow, one queue, and of the dead letters, from anywhere.

They read and write through the backend alone; whether a worker runs in this process makes no difference to them.
"""

from .dead import DeadLetter, DeadLetters
from .flow import FlowHandle, FlowStatus
from .queue import QueueHandle
from .task import TaskHandle

__all__ = ["DeadLetter", "DeadLetters", "FlowHandle", "FlowStatus", "QueueHandle", "TaskHandle"]
