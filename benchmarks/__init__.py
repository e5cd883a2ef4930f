"""The scripts that make the published figures; each runs from the repository root as ``python -m benchmarks.NAME``."""
