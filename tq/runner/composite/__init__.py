"""The generic commit: parts on different servers, moved forward by steps that may each be repeated (design 3).

    outcome row ─▶ records, plans ─▶ barrier, joins ─▶ projections ─▶ messages, notes ─▶ acknowledge ─▶ mark carried

No transaction spans the parts. What stands in for it is the outcome row: it is the first write, the first one recorded
counts for everybody, and whoever meets a delivery whose outcome is recorded carries that out instead of running the
task again. So each step may happen twice, and a death between any two of them leaves a delivery that comes again.

    outcome      an outcome as bytes              work       one ending on its way
    ledger       first one wins                   held       ends tasks that wait for a flow
    decided      ended, and the message is there  leftovers  carried out, and not noted as such
    carry        effects, part by part            insert     which custodian takes a message
    custody      leases looked at, and ended      claim      deliveries from both, looked at before they are handed out
    keeper       renewal in both                  sealed     flows of a producer that may die half-way
"""

from .backend import CompositeBackend
from .leftovers import Leftovers

__all__ = ["CompositeBackend", "Leftovers"]
