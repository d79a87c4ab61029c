"""What tests of tq, and of what is built with it, need.

`VirtualClock` and `run_virtual` let hours pass in milliseconds; `Probe` waits for what happens instead of sleeping.
`tq.testing.plugin` is a pytest plugin that runs coroutine tests in virtual time; `tq.testing.contracts` holds a public
suite for each port. Neither is imported from here: both need pytest, which is an extra.
"""

from tq.testing.probe import Probe, Seen
from tq.testing.virtual import DeadlockError, VirtualClock, VirtualLoop, run_virtual

__all__ = [
    "DeadlockError",
    "Probe",
    "Seen",
    "VirtualClock",
    "VirtualLoop",
    "run_virtual",
]
