"""Profiling: latency, storage and memory of a bundle; reports, budgets and their output for CI."""
