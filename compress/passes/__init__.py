"""Passes by the names that recipes call them."""

from __future__ import annotations

from .finetune import Finetune
from .fold import Fold
from .prune import Prune
from .share import Share
from .step import Pass

PASSES: dict[str, type[Pass]] = {
    "fold": Fold,
    "finetune": Finetune,
    "prune": Prune,
    "share": Share,
}
