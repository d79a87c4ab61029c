"""Measurements: `python -m bench.tasks`, `python -m bench.sqlite_hop`. No test asserts a time."""
