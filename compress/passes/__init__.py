"""Passes by the names that recipes call them."""

from __future__ import annotations

from .finetune import Finetune
from .fold import Fold
from .merge import Merge
from .narrow import Narrow
from .prune import Prune
from .share import Share
from .step import Pass

PASSES: dict[str, type[Pass]] = {
    "fold": Fold,
    "merge": Merge,
    "narrow": Narrow,
    "finetune": Finetune,
    "prune": Prune,
    "share": Share,
}
