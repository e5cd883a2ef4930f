"""What the scripts on hash networks share: a trained ResNet-20, a part of CIFAR-10 that mAP is measured on."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from hashpress.compress.fold import Fold
from hashpress.core.data import Split, load_data
from hashpress.core.model import HashModel
from hashpress.hashnets.retrieval.bit_flips import bit_flips
from hashpress.hashnets.retrieval.codes import outputs, pack
from hashpress.hashnets.retrieval.metrics import average_precision, count

from . import spine_models
from .cells import SEED

QUERIES, DATABASE = 2000, 10_000


@cache
def cifar10() -> Split:
    """Return CIFAR-10, protocol B; the folder comes from HASHPRESS_DATA."""
    folder = os.environ.get("HASHPRESS_DATA")
    if not folder:
        sys.exit("this script needs HASHPRESS_DATA: a folder with cifar10-jpeg.tar.xz")
    return load_data(f"cifar10:{folder}/cifar10-jpeg.tar.xz", protocol="B")


def resnet20() -> HashModel:
    """Return the 48-bit ResNet-20 of ``benchmarks.spine``, trained there when it is not yet, batch norms folded."""
    return Fold()(spine_models.resnet20())


Hasher = Callable[[np.ndarray], np.ndarray]  # pixels (N, C, H, W) -> outputs (N, bits)


def judged(
    hasher: Hasher,
    reference: Hasher,
    asked: int = QUERIES,
    data: Callable[[], Split] = cifar10,
    *,
    stored: int = DATABASE,
    kept_at: Path | None = None,
) -> dict[str, Any]:
    """Return bit flips against ``reference`` and mAP: so many queries, a database of so many images.

    ``kept_at`` is where the average precision of every query goes, so that two networks can be compared query by query.
    """
    split = data()
    chosen = np.random.default_rng(SEED).permutation(len(split.queries))[:asked]
    searched = np.random.default_rng(SEED).permutation(len(split.database))[:stored]
    queries, database = split.queries.take(np.sort(chosen)), split.database.take(np.sort(searched))
    codes, kept = hasher(queries.pixels), hasher(database.pixels)
    found = bit_flips(codes, reference(queries.pixels))
    counts = count(pack(codes), pack(kept), codes.shape[1], queries.typed_labels.relevance(database.typed_labels))
    precisions = average_precision(counts)
    if kept_at is not None:
        np.save(kept_at, precisions)
    return {
        "flips_percent": round(100 * found.rate, 4),
        "weighted_percent": round(100 * found.weighted_rate, 4),
        "map": round(float(precisions.mean()), 5),
    }


def hasher(model: HashModel) -> Hasher:
    """Return what hashes with ``model``."""
    return lambda pixels: outputs(model, pixels)
