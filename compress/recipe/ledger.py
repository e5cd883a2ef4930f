"""The ledger of a compression: file size, flipped bits, mAP and error after each step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ...core.data.images import Split
from ...core.model import HashModel, Json, Step
from ...core.units import format_bytes
from ...hashnets.retrieval.codes import outputs
from ...hashnets.retrieval.evaluate import error_rate, evaluate
from .decisions import described, skipped_in_brief

BELOW = 4 * " "
MANY = 0.2  # share of flipped bits from which retrieval degrades
PROBES = 2000  # queries whose bits are compared after each step


@dataclass(frozen=True)
class Line:
    """One step: its decision, and figures of the network after it."""

    step: int
    name: str
    settings: Mapping[str, Json] = field(default_factory=dict)
    decision: Mapping[str, Json] = field(default_factory=dict)
    figures: Mapping[str, Json] = field(default_factory=dict)
    warnings: Sequence[str] = ()

    def to_json(self) -> dict[str, Json]:
        """Return plain JSON values."""
        return {
            "step": self.step,
            "name": self.name,
            "settings": dict(self.settings),
            "decision": dict(self.decision),
            "figures": dict(self.figures),
            "warnings": list(self.warnings),
        }

    def __str__(self) -> str:
        shown = [f"{self.step:2}  {self.name:10}"]
        for name, value in self.figures.items():
            shown.append(format_bytes(value) if name == "bytes" else f"{name} {value:.4g}")
        more = [skipped_in_brief(self.decision), *(f"warning: {text}" for text in self.warnings)]
        return "\n".join(["  ".join(shown), *(f"{BELOW}{text}" for text in more if text)])

    def in_full(self) -> str:
        """Return the line followed by the whole decision."""
        more = [*described(self.decision), *(f"warning: {text}" for text in self.warnings)]
        return "\n".join([str(replace(self, decision={}, warnings=())), *(f"{BELOW}{text}" for text in more)])


@dataclass(frozen=True)
class Ledger:
    """All steps of a run; the first is the network before compression."""

    lines: tuple[Line, ...]

    def __str__(self) -> str:
        return "\n".join(str(line) for line in self.lines)

    def in_full(self) -> str:
        """Return all steps with their whole decisions."""
        return "\n".join(line.in_full() for line in self.lines)

    def to_json(self) -> list[dict[str, Json]]:
        """Return plain JSON values."""
        return [line.to_json() for line in self.lines]


def warnings_of(figures: Mapping[str, Json], step: Step | None) -> list[str]:
    """Return warnings about a network after a step that raised no error."""
    found = []
    if figures.get("flips", 0) > MANY:
        found.append(f"{figures['flips']:.0%} of the bits are no longer those of the uncompressed network")
    swollen = step.after.get("degenerate") if step else None
    if swollen:
        found.append(
            f"degenerate fit of {', '.join(swollen)}: terms many times larger than what they add up to; training may "
            "diverge: ask for a lower rank, or epc = true"
        )
    return found


def unmeasurable(model: HashModel, split: Split | None, wanted: Sequence[str]) -> list[str]:
    """Return a problem for each of the ``wanted`` figures that cannot be computed for this network and data set."""
    if split is None or "error" not in wanted or model.arch.bits == len(split.classes):
        return []
    return [
        f"measure 'error' is for codes that are classes; these have {model.arch.bits} bits "
        f"and the data {len(split.classes)} classes: measure flips or map"
    ]


def measured(
    model: HashModel, size: int, start: HashModel, split: Split | None, wanted: Sequence[str]
) -> dict[str, Json]:
    """Return the file size in bytes (``size``) and the ``wanted`` figures, all of which have to be measurable.

    They are measured on the validation part of the data where one is held out, otherwise on the queries.
    """
    figures: dict[str, Json] = {"bytes": size}
    if split is None:
        return figures
    split = split.for_settings
    if "flips" in wanted and model is not start:
        pixels = split.queries.values[:PROBES]
        flips = (outputs(model, pixels) >= 0) != (outputs(start, pixels) >= 0)
        figures["flips"] = round(float(np.mean(flips)), 6)
    if "map" in wanted:
        figures["map"] = round(float(evaluate(model, split).map), 6)
        if model is not start:
            figures["map_asymmetric"] = round(float(evaluate(model, split, against=start).map), 6)
    if "error" in wanted:
        figures["error"] = round(error_rate(model, split.queries), 6)
    return figures
