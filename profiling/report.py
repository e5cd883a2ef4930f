"""Report: the figures of one bundle on one device, each with its unit and its kind of evidence.

The JSON format is versioned and loaded strictly: unknown, missing or mistyped fields are refused.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ..core.errors import ReportError, lookup
from ..core.files import atomic_write
from ..core.units import format_bytes, format_ms, format_points
from .metrics import KINDS, METRICS

FORMAT = 3
_READS = (2, FORMAT)  # format 2 has neither hashes nor timing
GROUPS = ("values", "codebooks", "biases", "metadata", "tables", "library", "manifest", "golden", "other")
UNITS = ("ms", "B", "share", "count", "cycles")


@dataclass(frozen=True)
class Figure:
    """A number with its unit and its kind of evidence.

    Raises:
        ReportError: not a finite number, or an unknown unit or kind.
    """

    value: float
    unit: str
    kind: str

    def __post_init__(self) -> None:
        if isinstance(self.value, bool) or not isinstance(self.value, int | float) or not math.isfinite(self.value):
            raise ReportError(f"a figure must be a finite number, found {self.value!r}")
        if self.unit not in UNITS:
            raise ReportError(f"unknown unit {self.unit!r} of a figure (there are: {', '.join(UNITS)})")
        if self.kind not in KINDS:
            raise ReportError(f"unknown kind {self.kind!r} of a figure (there are: {', '.join(KINDS)})")

    def __str__(self) -> str:
        return show(self.value, self.unit)


def show(value: float, unit: str) -> str:
    """Return a value as readable text: ``67.5 kB``, ``1.2 ms``, ``0.35 %``, ``1,234``."""
    if unit == "B":
        return format_bytes(value)
    if unit == "ms":
        return format_ms(value)
    if unit == "share":
        return f"{100 * value:.{4 if abs(value) >= 0.01 else 3}g} %"
    return f"{value:,.0f}"


def show_metric(name: str, value: float) -> str:
    """Return a value of the metric ``name`` as readable text; differences of shares in points: ``1.5 points``."""
    metric = METRICS[name]
    return format_points(value) if metric.difference else show(value, metric.unit)


@dataclass(frozen=True)
class Layer:
    """The cost of one kernel per input."""

    name: str
    cost: Figure


@dataclass(frozen=True)
class Part:
    """A part of the bundle, such as the stream of a tensor, the header or the library."""

    name: str
    group: str  # one of GROUPS
    bytes: int


@dataclass(frozen=True)
class Report:
    """All figures of one bundle on one device.

    Raises:
        ReportError: a figure's name is unknown, or its unit or kind is not the metric's.
    """

    name: str
    target: str
    device: str
    figures: Mapping[str, Figure]
    layers: tuple[Layer, ...] = ()
    parts: tuple[Part, ...] = ()
    machine: Mapping[str, Any] = field(default_factory=dict)
    noise: tuple[str, ...] = ()  # reasons why the times may be unreliable
    versions: Mapping[str, str] = field(default_factory=dict)
    quality: Mapping[str, Any] = field(default_factory=dict)  # JSON of an evaluation, for the curves
    history: tuple[Mapping[str, Any], ...] = ()  # one entry for each step that led to the model
    decoded: Mapping[str, str] = field(default_factory=dict)  # layer -> encoding that is decoded to dense on loading
    hashes: Mapping[str, str] = field(default_factory=dict)  # SHA-256 of the files of the bundle by name
    timing: Mapping[str, Any] = field(default_factory=dict)  # how the latency was measured, see rounds.py

    def __post_init__(self) -> None:
        for name, figure in self.figures.items():
            metric = lookup(METRICS, name, "figure", ReportError)
            if figure.unit != metric.unit or figure.kind not in metric.kinds:
                raise ReportError(
                    f"{name}: expected unit {metric.unit} and kind {' or '.join(metric.kinds)}, "
                    f"found {figure.unit} and {figure.kind}"
                )

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "format": FORMAT,
            "name": self.name,
            "target": self.target,
            "device": self.device,
            "figures": {name: _plain(figure) for name, figure in self.figures.items()},
            "layers": [{"name": layer.name, "cost": _plain(layer.cost)} for layer in self.layers],
            "parts": [_plain(part) for part in self.parts],
            "machine": dict(self.machine),
            "noise": list(self.noise),
            "versions": dict(self.versions),
            "quality": dict(self.quality),
            "history": [dict(step) for step in self.history],
            "decoded": dict(self.decoded),
            "hashes": dict(self.hashes),
            "timing": dict(self.timing),
        }

    @classmethod
    def from_json(cls, value: Any) -> Report:
        """Return the report written by :meth:`to_json`.

        Raises:
            ReportError: another version, or a field is missing, unknown or of the wrong type.
        """
        if not isinstance(value, dict) or "format" not in value:
            raise ReportError("not a hashpress report: the field 'format' is missing")
        if value["format"] not in _READS:
            reads = " and ".join(map(str, _READS))
            raise ReportError(f"report of format {value['format']!r}, this version of hashpress reads format {reads}")
        if value["format"] == 2:
            value = {"hashes": {}, "timing": {}, **value}
        value = _checked(value, _SHAPE, "the report")
        figures = {name: _figure(entry, name) for name, entry in value["figures"].items()}
        layers = [_checked(entry, {"name": str, "cost": dict}, "a layer") for entry in value["layers"]]
        parts = [_checked(entry, {"name": str, "group": str, "bytes": int}, "a part") for entry in value["parts"]]
        return cls(
            value["name"],
            value["target"],
            value["device"],
            figures,
            tuple(Layer(entry["name"], _figure(entry["cost"], entry["name"])) for entry in layers),
            tuple(Part(**entry) for entry in parts),
            value["machine"],
            tuple(value["noise"]),
            value["versions"],
            value["quality"],
            tuple(value["history"]),
            _checked(value["decoded"], dict.fromkeys(value["decoded"], str), "decoded layers"),
            _checked(value["hashes"], dict.fromkeys(value["hashes"], str), "hashes"),
            value["timing"],
        )

    def decodings(self) -> list[str]:
        """Return one line for each encoding that is decoded to dense, such as ``pruned+shared: encoder.fc1, head``."""
        return [
            f"{encoding}: {', '.join(layer for layer, other in self.decoded.items() if other == encoding)}"
            for encoding in dict.fromkeys(self.decoded.values())
        ]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the report as JSON, atomically."""
        with atomic_write(path, "w") as handle:
            json.dump(self.to_json(), handle, indent=1, allow_nan=False)
            handle.write("\n")

    def __str__(self) -> str:
        lines = [f"{self.name} for {self.target} on {self.device}"]
        lines += [
            f"  {name:<28} {show_metric(name, figure.value):>12}  {figure.kind}"
            for name, figure in self.figures.items()
        ]
        lines += [f"  decoded to dense when loaded: {about}" for about in self.decodings()]
        return "\n".join([*lines, *(f"  noisy: {reason}" for reason in self.noise)])


def load_report(path: str | os.PathLike[str]) -> Report:
    """Return the report in a JSON file.

    Raises:
        ReportError: no such file, not JSON, or not a report of this version.
    """
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as fault:
        reason = fault.strerror if isinstance(fault, OSError) else f"not JSON ({fault})"
        raise ReportError(f"cannot read report {path}: {reason}") from fault
    try:
        return Report.from_json(value)
    except ReportError as fault:
        raise ReportError(f"{path}: {fault}; create it again with: hashpress profile BUNDLE -o REPORT") from fault


_SHAPE = {
    "format": int,
    "name": str,
    "target": str,
    "device": str,
    "figures": dict,
    "layers": list,
    "parts": list,
    "machine": dict,
    "noise": list,
    "versions": dict,
    "quality": dict,
    "history": list,
    "decoded": dict,
    "hashes": dict,
    "timing": dict,
}


def _refuse_constant(name: str) -> float:
    raise ReportError(f"a report must have finite numbers only, found {name}")


def _checked(value: Any, shape: Mapping[str, type], what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ReportError(f"{what} must be an object, found {type(value).__name__}")
    problems = [f"field {name!r} is missing" for name in shape if name not in value]
    problems += [f"unknown field {name!r}" for name in value if name not in shape]
    problems += [
        f"field {name!r} must be {kind.__name__}, found {type(value[name]).__name__}"
        for name, kind in shape.items()
        if name in value and type(value[name]) is not kind
    ]
    if problems:
        raise ReportError(f"{what}: {'; '.join(problems)}")
    return value


def _figure(value: Any, name: str) -> Figure:
    number = int if isinstance(value, dict) and type(value.get("value")) is int else float
    return Figure(**_checked(value, {"value": number, "unit": str, "kind": str}, f"figure {name!r}"))


def _plain(value: Figure | Part) -> dict[str, Any]:
    return {entry.name: getattr(value, entry.name) for entry in fields(value)}
