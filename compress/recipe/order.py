"""Rules for the order of passes in a recipe: by phase, and by class variables of the passes."""

from __future__ import annotations

from collections.abc import Sequence

from ..base import Pass

RANKS = {"fold": 0, "structure": 1, "values": 2}  # passes of the other phases may stand anywhere
REASONS = {
    "fold": "norms are folded before anything else changes weights",
    "structure": "layers change shape before their values are pruned or shared",
}
ENDED = ("values", "finetune")  # phases whose passes may not follow a last pass


def order_violation(item: type[Pass], before: Sequence[type[Pass]]) -> str:
    """Return the reason why a pass may not follow those in ``before``, or an empty string."""
    rank = RANKS.get(item.phase, max(RANKS.values()))
    for other in before:
        if RANKS.get(other.phase, -1) > rank and other.name not in item.may_follow:
            return f"must come before {other.name}: {REASONS[item.phase]}"
    for other in before:
        if other.name in item.refused_after:
            return item.refused_after[other.name]
        if other.last_because and item.phase in ENDED and other.name != item.name:
            return other.last_because
    return ""
