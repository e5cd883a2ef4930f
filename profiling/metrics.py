"""The figures a report can hold: their unit, the kinds of evidence allowed for each, and which way is better.

Kinds never mix under one name: what an emulator or a cycle count gives is never called latency.
"""

from __future__ import annotations

from dataclasses import dataclass

KINDS = ("measured", "emulated", "instructions", "cycles", "static", "estimate")


@dataclass(frozen=True)
class Metric:
    """What one figure means."""

    unit: str  # ms | B | share | count | cycles
    kinds: tuple[str, ...]
    what: str
    more_is_better: bool = False


_TIME = ("measured",)
_FILE = ("measured",)
_PLAN = ("static",)
_QUALITY = ("measured",)

METRICS: dict[str, Metric] = {
    "latency.min": Metric("ms", _TIME, "fastest of all timed runs of one input"),
    "latency.p50": Metric("ms", _TIME, "median of all timed runs of one input"),
    "latency.p90": Metric("ms", _TIME, "nine of ten runs are faster"),
    "latency.p99": Metric("ms", _TIME, "99 of 100 runs are faster"),
    "latency.open": Metric("ms", _TIME, "opening the bundle: checking hashes, decoding weights, loading kernels"),
    "emulated.p50": Metric("ms", ("emulated",), "median under an emulator; says nothing about the real core"),
    "instructions.total": Metric("count", ("instructions",), "instructions executed for one input"),
    "cycles.total": Metric("cycles", ("cycles",), "clock cycles of a simulation for one input"),
    "storage.file": Metric("B", _FILE, "the model file, whole"),
    "storage.bundle": Metric("B", _FILE, "every file of the bundle together"),
    "storage.values": Metric("B", _FILE, "entropy-coded weights in the model file"),
    "storage.codebooks": Metric("B", _FILE, "shared values of coded layers"),
    "storage.biases": Metric("B", _FILE, "biases and other plain vectors"),
    "storage.metadata": Metric("B", _FILE, "header: architecture, edits, provenance"),
    "storage.tables": Metric("B", _FILE, "models of the entropy coder"),
    "storage.library": Metric("B", _FILE, "compiled kernels"),
    "storage.manifest": Metric("B", _FILE, "the bundle's manifest"),
    "storage.golden": Metric("B", _FILE, "golden inputs and their codes"),
    "storage.other": Metric("B", _FILE, "any other file in the bundle"),
    "storage.fp32": Metric("B", _PLAN, "four bytes for every number of the original network"),
    "memory.activations": Metric("B", _PLAN, "the compiler's plan for intermediate results"),
    "memory.weights": Metric("B", _PLAN, "weights as decoded, in the network's own layout"),
    "memory.packed": Metric("B", _PLAN, "weights once more, packed for the kernels"),
    "memory.rss": Metric("B", ("measured",), "peak resident set of a fresh process that opens the bundle and runs"),
    "memory.idle": Metric("B", ("measured",), "resident set of that process before it opens the bundle"),
    "quality.map": Metric("share", _QUALITY, "mean average precision", more_is_better=True),
    "quality.map_asymmetric": Metric(
        "share", _QUALITY, "mAP of these queries against the original database", more_is_better=True
    ),
    "quality.map_drop": Metric("share", _QUALITY, "mAP lost against the original network, symmetric"),
    "quality.map_drop_asymmetric": Metric("share", _QUALITY, "mAP lost when the database keeps its original codes"),
    "quality.bit_flips": Metric("share", _QUALITY, "bits that differ from the original network's"),
}
