"""One evaluation of a model, alone or against the original network it was compressed from.

Against the original there are three retrieval figures, all under one protocol: the model's own (symmetric), its queries
against the original's database (asymmetric: nobody re-hashes a deployed index), and the original's own; and the bits of
the queries that flipped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ...core.data.split import Split
from ...core.device import open_device
from ...core.files import atomic_write, sha256_file
from ...core.model import HashModel
from ..repeatable import check_repeatable
from .codes import outputs, pack
from .evaluate import Flips, Quality, bit_flips, quality


@dataclass(frozen=True)
class Assessment:
    """Retrieval quality; ``asymmetric``, ``original`` and ``flips`` are there when an original network was given.

    ``model`` and ``against`` are the files that were evaluated, as :func:`file_id` describes them.
    """

    symmetric: Quality
    asymmetric: Quality | None = None
    original: Quality | None = None
    flips: Flips | None = None
    model: Mapping[str, str] | None = None
    against: Mapping[str, str] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; what was not measured is left out."""
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: dict(part) if isinstance(part, Mapping) else part.to_json()
            for name, part in parts.items()
            if part is not None
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the JSON form, whole or not at all."""
        with atomic_write(path, "w") as handle:
            json.dump(self.to_json(), handle, indent=1, allow_nan=False)
            handle.write("\n")

    def __str__(self) -> str:
        if not (self.asymmetric and self.original and self.flips):
            return str(self.symmetric)
        before = self.original.map
        lines = [str(self.symmetric), f"against the original network, whose mAP is {before:.4f}"]
        for name, map_ in (("symmetric", self.symmetric.map), ("asymmetric", self.asymmetric.map)):
            lines.append(f"  mAP {name:<14} {map_:.4f}  ({map_ - before:+.4f})")
        return "\n".join([*lines, str(self.flips)])


def file_id(path: str | os.PathLike[str]) -> dict[str, str]:
    """Return the ``name`` and the ``sha256`` of a model file, by which a bundle of the same network is recognised."""
    return {"name": Path(path).name, "sha256": sha256_file(Path(path))}


def assess(model: HashModel, split: Split, against: HashModel | None = None, *, device: str = "cpu") -> Assessment:
    """Return the quality of ``model`` on ``split`` and, with ``against``, what it lost.

    Raises:
        InputError: codes of different length, items that a network does not take, a network that answers differently
            each time, or no such device.
    """
    place = open_device(device)
    model, against = model.on(place), against and against.on(place)
    for network in filter(None, (model, against)):
        check_repeatable(network, split)
    bits = model.arch.bits
    queries, database = outputs(model, split.queries.values), outputs(model, split.database.values)
    own = quality(pack(queries), pack(database), bits, split)
    if against is None:
        return Assessment(own)
    queries_before, database_before = outputs(against, split.queries.values), outputs(against, split.database.values)
    flips = bit_flips(queries, queries_before)
    mixed = quality(pack(queries), pack(database_before), bits, split, asymmetric=True)
    before = quality(pack(queries_before), pack(database_before), bits, split)
    return Assessment(own, mixed, before, flips)
