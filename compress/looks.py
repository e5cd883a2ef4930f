"""Which settings of passes look at training images: asked before a recipe begins, not when hours of it are done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .base import Pass
from .channels.merge import Merge
from .channels.narrow import Narrow
from .codebooks.pq import ProductQuantize
from .codebooks.share import Share
from .factorize.cp import Cp
from .factorize.lowrank import LowRank
from .finetune.finetune import Finetune
from .fold import Fold
from .integers.int8 import Int8
from .prune.prune import Prune
from .structured.fastfood import Fastfood
from .structured.hashed import HashWeights
from .thresholds import Thresholds

LOOKS: Mapping[type, Callable[[Any], bool]] = {
    Fold: lambda _: False,
    Merge: lambda item: item.refit > 0 and item.images == "training",
    Narrow: lambda item: item.refit or item.score in ("taylor", "code"),
    Cp: lambda item: item.data or item.flips is not None,
    LowRank: lambda item: item.solver != "filter",
    HashWeights: lambda _: False,
    Fastfood: lambda _: False,
    Finetune: lambda _: True,
    Prune: lambda item: item.compensate != "none" or item.scope == "sensitivity" or item.stages > 1,
    Share: lambda item: item.importance == "outputs" or item.finetune is not None,
    ProductQuantize: lambda item: item.sweeps > 0,
    Int8: lambda _: True,
    Thresholds: lambda _: True,
}


def looks(item: Pass) -> bool:
    """Return whether a pass with these settings needs training images."""
    return bool(LOOKS[type(item)](item))
