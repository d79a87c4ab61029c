"""What tests of tq, and of what is built with it, need.

`VirtualClock` and `run_virtual` let hours pass in milliseconds; `Probe` waits for what happens instead of sleeping.
`Account` collects what a run says of itself, and `assert_sound` holds the servers to it: nothing lost, nothing doubled,
every join told once, whatever was killed. `Faults` lets calls to any port go wrong, by one of the `plans`.

Not imported from here: `tq.testing.harness` runs your own executors; `tq.testing.supervisor` starts a handler again
that died of its faults; `tq.testing.plugin` is a pytest plugin that runs coroutine tests in virtual time;
`tq.testing.contracts` holds a public suite for each port. The last two need pytest, which is an extra.
"""

from tq.testing import plans
from tq.testing.account import Account, Began, Joined, stamp_in
from tq.testing.faults import Call, Fault, Faults, Plan, ProcessDiedError
from tq.testing.invariants import assert_sound, changed_endings, violations
from tq.testing.probe import Probe, Seen
from tq.testing.snapshot import Snapshot, take_snapshot
from tq.testing.virtual import DeadlockError, VirtualClock, VirtualLoop, run_virtual

__all__ = [
    "Account",
    "Began",
    "Call",
    "DeadlockError",
    "Fault",
    "Faults",
    "Joined",
    "Plan",
    "Probe",
    "ProcessDiedError",
    "Seen",
    "Snapshot",
    "VirtualClock",
    "VirtualLoop",
    "assert_sound",
    "changed_endings",
    "plans",
    "run_virtual",
    "stamp_in",
    "take_snapshot",
    "violations",
]
