"""Measurements: `python -m bench` (tasks), `bench.backlog`, `bench.sqlite_hop`. No test asserts a time."""
