"""Metrics of a report: the unit of each, the allowed kinds of evidence, and whether more is better.

Kinds are never mixed under one name: results of an emulator or cycle counts are never called latency.
"""

from __future__ import annotations

from dataclasses import dataclass

KINDS = ("measured", "emulated", "instructions", "cycles", "static", "estimate")


@dataclass(frozen=True)
class Metric:
    """Unit, allowed kinds and description of a figure."""

    unit: str  # ms | B | share | count | cycles
    kinds: tuple[str, ...]
    what: str
    more_is_better: bool = False
    difference: bool = False  # of two shares: shown in percentage points


_TIME = ("measured",)
_FILE = ("measured",)
_PLAN = ("static",)
_QUALITY = ("measured",)

METRICS: dict[str, Metric] = {
    "latency.min": Metric("ms", _TIME, "fastest of all timed runs of one input"),
    "latency.p50": Metric("ms", _TIME, "median of all timed runs of one input"),
    "latency.p90": Metric("ms", _TIME, "90th percentile of all timed runs of one input"),
    "latency.p99": Metric("ms", _TIME, "99th percentile of all timed runs of one input"),
    "latency.open": Metric("ms", _TIME, "time to open the bundle: check hashes, decode weights, load kernels"),
    "emulated.p50": Metric("ms", ("emulated",), "median under an emulator, not comparable with a real device"),
    "instructions.total": Metric("count", ("instructions",), "instructions executed for one input"),
    "cycles.total": Metric("cycles", ("cycles",), "clock cycles of a simulation for one input"),
    "storage.file": Metric("B", _FILE, "size of the model file"),
    "storage.bundle": Metric("B", _FILE, "size of all files in the bundle"),
    "storage.values": Metric("B", _FILE, "entropy-coded weights in the model file"),
    "storage.codebooks": Metric("B", _FILE, "codebooks and scales of compressed layers"),
    "storage.biases": Metric("B", _FILE, "biases and other vectors"),
    "storage.metadata": Metric("B", _FILE, "header and manifest: architecture, edits, history"),
    "storage.tables": Metric("B", _FILE, "tables of the entropy coder"),
    "storage.library": Metric("B", _FILE, "compiled kernels"),
    "storage.manifest": Metric("B", _FILE, "the bundle's manifest"),
    "storage.golden": Metric("B", _FILE, "golden inputs and their codes"),
    "storage.other": Metric("B", _FILE, "any other file in the bundle"),
    "storage.fp32": Metric("B", _PLAN, "size of the original network in float32"),
    "memory.activations": Metric("B", _PLAN, "planned memory for intermediate results"),
    "memory.weights": Metric("B", _PLAN, "decoded weights in the layout of the network"),
    "memory.packed": Metric("B", _PLAN, "weights packed in the layout of the kernels"),
    "memory.network": Metric(
        "B", ("measured",), "peak memory of opening and running the network, without the interpreter"
    ),
    "memory.rss": Metric("B", ("measured",), "peak resident set of a fresh process that opens and runs the bundle"),
    "memory.idle": Metric(
        "B", ("measured",), "resident set of that process before it opens the bundle: the interpreter"
    ),
    "quality.map": Metric("share", _QUALITY, "mean average precision", more_is_better=True),
    "quality.map_asymmetric": Metric(
        "share", _QUALITY, "mAP of the queries against a database with original codes", more_is_better=True
    ),
    "quality.map_drop": Metric("share", _QUALITY, "drop of mAP against the original network", difference=True),
    "quality.map_drop_asymmetric": Metric(
        "share", _QUALITY, "drop of mAP when the database keeps its original codes", difference=True
    ),
    "quality.bit_flips": Metric("share", _QUALITY, "share of bits that differ from the codes of the original network"),
}
