"""Registry of the passes by the names used in recipes."""

from __future__ import annotations

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

PASSES: dict[str, type[Pass]] = {
    "fold": Fold,
    "merge": Merge,
    "narrow": Narrow,
    "cp": Cp,
    "lowrank": LowRank,
    "hashed": HashWeights,
    "fastfood": Fastfood,
    "finetune": Finetune,
    "prune": Prune,
    "share": Share,
    "pq": ProductQuantize,
    "int8": Int8,
    "thresholds": Thresholds,
}

__all__ = [
    "PASSES", "Cp", "Fastfood", "Finetune", "Fold", "HashWeights", "Int8", "LowRank", "Merge", "Narrow", "Pass",
    "ProductQuantize", "Prune", "Share", "Thresholds",
]  # fmt: skip
