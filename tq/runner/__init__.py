"""The way of a delivery: gate → slots → bodies → settle → commit, and round again.

    claimed ─▶ waiting for a slot ─▶ running ─▶ settled ─▶ written
       │            │                  │  └▶ handed over (its lease goes on, its slot is free)
       └────────────┴──────────────────┴──▶ released, uncounted

The backend owns custody; this room owns nothing but what it holds a lease on. `settle` decides and does nothing;
`commit` does and decides nothing; `invoke` is the one place where an exception becomes a value.
"""
