"""One evaluation of a model, alone or against the original network it was compressed from.

Against the original there are three retrieval figures, all under one protocol: the model's own (symmetric), its queries
against the original's database (asymmetric: nobody re-hashes a deployed index), and the original's own; and the bits of
the queries that flipped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.data.images import Split
from ..core.errors import ReportError
from ..core.files import atomic_write
from ..core.model import HashModel
from ..hashnets.codes import outputs, pack
from ..hashnets.evaluate import Flips, Quality, bit_flips, quality
from .report import Figure

SIDES = ("symmetric", "asymmetric", "original")


@dataclass(frozen=True)
class Assessment:
    """Retrieval quality; the last three fields are there when an original network was given."""

    symmetric: Quality
    asymmetric: Quality | None = None
    original: Quality | None = None
    flips: Flips | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; what was not measured is left out."""
        parts = {name: getattr(self, name) for name in (*SIDES, "flips")}
        return {name: part.to_json() for name, part in parts.items() if part is not None}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the JSON form, whole or not at all."""
        with atomic_write(path, "w") as handle:
            json.dump(self.to_json(), handle, indent=1, allow_nan=False)
            handle.write("\n")

    def __str__(self) -> str:
        return "\n".join(str(part) for part in (self.symmetric, self.asymmetric, self.original, self.flips) if part)


def assess(model: HashModel, split: Split, against: HashModel | None = None) -> Assessment:
    """Return the quality of ``model`` on ``split`` and, with ``against``, what it lost.

    Raises:
        InputError: codes of different length, or images that a network does not take.
    """
    bits = model.arch.bits
    queries, database = outputs(model, split.queries.pixels), outputs(model, split.database.pixels)
    own = quality(pack(queries), pack(database), bits, split)
    if against is None:
        return Assessment(own)
    queries_before, database_before = outputs(against, split.queries.pixels), outputs(against, split.database.pixels)
    flips = bit_flips(queries, queries_before)
    mixed = quality(pack(queries), pack(database_before), bits, split, asymmetric=True)
    before = quality(pack(queries_before), pack(database_before), bits, split)
    return Assessment(own, mixed, before, flips)


def load_quality(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the JSON of an assessment that :meth:`Assessment.save` wrote.

    Raises:
        ReportError: no such file, not JSON, or not an assessment.
    """
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
        quality_figures(value)
    except OSError as fault:
        raise ReportError(f"cannot read evaluation {path}: {fault.strerror}") from fault
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, ReportError) as fault:
        raise ReportError(f"{path} is no evaluation; write one with: hashpress evaluate ... -o QUALITY") from fault
    return dict(value)


def quality_figures(value: Mapping[str, Any]) -> dict[str, Figure]:
    """Return the figures of an assessment's JSON: mAP, what was lost, and the share of flipped bits.

    Raises:
        KeyError, TypeError, ReportError: it is not an assessment.
    """
    maps = {side: Quality.from_json(value[side]).map for side in SIDES if side in value}
    shares = {"map": maps["symmetric"]}
    if "original" in maps:
        shares["map_drop"] = maps["original"] - maps["symmetric"]
        shares["map_asymmetric"] = maps["asymmetric"]
        shares["map_drop_asymmetric"] = maps["original"] - maps["asymmetric"]
        shares["bit_flips"] = value["flips"]["rate"]
    return {f"quality.{name}": Figure(share, "share", "measured") for name, share in shares.items()}
