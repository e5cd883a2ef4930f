"""Passes by the names that recipes call them."""

from __future__ import annotations

from .asked import asking
from .cp import Cp
from .fastfood import Fastfood
from .finetune import Finetune
from .fold import Fold
from .hashed import HashWeights
from .int8 import Int8
from .lowrank import LowRank
from .merge import Merge
from .narrow import Narrow
from .pq import ProductQuantize
from .prune import Prune
from .share import Share
from .step import Pass
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
for _name, _kind in PASSES.items():  # here, where no pass can be forgotten
    asking(_name, _kind)

__all__ = [
    "PASSES", "Cp", "Fastfood", "Finetune", "Fold", "HashWeights", "Int8", "LowRank", "Merge", "Narrow", "Pass",
    "ProductQuantize", "Prune", "Share", "Thresholds",
]  # fmt: skip
