"""What each step of a run took and cost, told as it ends: seconds, bytes, flipped bits and mAP on a sample of the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ...core.data.labels import PairLabels
from ...core.data.split import Split
from ...core.model import HashModel
from ...core.units import format_bytes
from ...hashnets.retrieval.codes import outputs, pack
from ...hashnets.retrieval.evaluate import quality
from .decisions import skipped_in_brief
from .ledger import BELOW
from .run import StepEnd

QUERIES, DATABASE = 1000, 4000  # that are hashed after each step, at most


@dataclass(frozen=True)
class Told:
    """One step in figures: ``flips`` and ``map`` are those of the sample where the recipe does not measure them."""

    end: StepEnd
    figures: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return the line of the ledger with ``seconds`` and all figures."""
        return {
            **self.end.line.to_json(),
            "figures": dict(self.figures),
            "seconds": None if self.end.seconds is None else round(self.end.seconds, 3),
        }

    def __str__(self) -> str:
        line, end = self.end.line, self.end
        size = format_bytes(line.figures["bytes"])
        if not line.step:
            return "  ".join(["start:", size, *self._quality()])
        took = "kept from before" if end.seconds is None else f"{end.seconds:.1f} s"
        about = [f"step {line.step}/{end.steps} {line.name}: {took}", f"{format_bytes(end.bytes_before)} -> {size}"]
        notes = [skipped_in_brief(line.decision), *(f"warning: {text}" for text in line.warnings)]
        return "\n".join(["  ".join([*about, *self._quality()]), *(f"{BELOW}{text}" for text in notes if text)])

    def _quality(self) -> list[str]:
        words = {"flips": "{:.2%} of the bits flipped", "map": "mAP {:.4f}", "error": "error {:.2%}"}
        return [text.format(self.figures[name]) for name, text in words.items() if name in self.figures]


@dataclass
class StepTeller:
    """Called after each step of a run: measures a sample of ``split``, if there is one, and hands the step to ``tell``."""

    split: Split | None
    tell: Callable[[Told], None]
    steps: list[Told] = field(default_factory=list)
    _start: HashModel | None = None
    _before: np.ndarray | None = None  # outputs of the start for the sampled queries

    def __post_init__(self) -> None:
        self._sample = None if self.split is None else sampled(self.split)

    def __call__(self, end: StepEnd) -> None:
        """Measure and tell one step."""
        if end.line.step == 0:
            self._start = end.model
        self.steps.append(Told(end, {**end.line.figures, **self._measured(end), **end.line.figures}))
        self.tell(self.steps[-1])

    @property
    def nothing_done(self) -> bool:
        """Whether all steps had been finished by an earlier run."""
        return all(step.end.seconds is None for step in self.steps)

    @property
    def on_all_items(self) -> bool:
        """Whether the sample is the whole of the data."""
        return self.split is self._sample

    @property
    def sample(self) -> str:
        """The sample, in words; empty without data."""
        if self.split is None or self._sample is None:
            return ""
        parts = [(self._sample.queries, self.split.queries), (self._sample.database, self.split.database)]
        counts = [
            f"{len(some):,}" if len(some) == len(whole) else f"{len(some):,} of {len(whole):,}" for some, whole in parts
        ]
        return f"{counts[0]} queries, {counts[1]} {self.split.database.noun} in the database"

    def _measured(self, end: StepEnd) -> dict[str, float]:
        last = end.line.step == end.steps
        if self._sample is None or end.model is None or (end.seconds is None and end.line.step and not last):
            return {}
        queries = outputs(end.model, self._sample.queries.values)
        figures = {}
        if end.line.step == 0:
            self._before = queries
        elif self._before is not None:
            figures["flips"] = round(float(np.mean((queries >= 0) != (self._before >= 0))), 6)
        database = outputs(end.model, self._sample.database.values)
        found = quality(pack(queries), pack(database), end.model.arch.bits, self._sample)
        figures["map"] = round(float(found.map), 6)
        return figures


def sampled(split: Split) -> Split:
    """Return ``split`` with at most so many queries and database items as are hashed quickly, evenly chosen."""
    few = len(split.queries) <= QUERIES and len(split.database) <= DATABASE
    if few or split.queries.label_type is PairLabels:  # an item's only partner may not be left out
        return split
    queries, database = (
        items.take(np.linspace(0, len(items) - 1, most).astype(int)) if len(items) > most else items
        for items, most in ((split.queries, QUERIES), (split.database, DATABASE))
    )
    return replace(split, queries=queries, database=database)
