"""Strengths and settings of the passes that a sensitivity analysis applies to one layer at a time.

``fold``, ``finetune`` and ``thresholds`` act on the whole network and have no strength.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ...core.errors import InputError, lookup
from ..channels.graph import Channels

AMOUNTS: dict[str, tuple[float, ...]] = {
    "prune": (0.9, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05),
    "share": (6, 5, 4, 3, 2, 1),
    "int8": (8, 6, 5, 4, 3, 2),
    "narrow": (0.125, 0.25, 0.5, 0.75),
    "merge": (0.125, 0.25, 0.5, 0.75),
    "lowrank": (0.999, 0.99, 0.95, 0.9),
    "cp": (0.5, 0.25, 0.125),
    "pq": (256, 64, 16),
    "hashed": (0.5, 0.25, 0.125, 0.0625),
    "fastfood": (1,),
}
WHAT = {
    "prune": "density", "share": "bits", "int8": "bits", "narrow": "ratio", "merge": "share", "lowrank": "energy",
    "cp": "share", "pq": "entries", "hashed": "share", "fastfood": "layers",
}  # fmt: skip
RISING = ("narrow", "merge")  # more of it is more of a cut
USUAL = ("prune", "share", "int8")


def settings_for(name: str, layer: str, amount: float, graph: Channels) -> dict[str, Any]:
    """Return the settings with which a pass only changes ``layer``."""
    tables: dict[str, Callable[[], dict[str, Any]]] = {
        "prune": lambda: {"density": {layer: amount}},
        "share": lambda: {"bits": {layer: int(amount)}},
        "int8": lambda: {"bits": {layer: int(amount)}, "images": 128},
        "narrow": lambda: {"ratio": amount, "skip": _other_layers(layer, graph)},
        "merge": lambda: {"share": {layer: amount}, "kinds": ("dense", "conv")},
        "lowrank": lambda: {"energy": {layer: amount}, "skip": (), "asymmetric": False, "images": 200},
        "cp": lambda: {"share": {layer: amount}, "skip": (), "fit": "als"},
        "pq": lambda: {"entries": {layer: int(amount)}},
        "hashed": lambda: {"share": {layer: amount}},  # without training: the nearest approximation
        "fastfood": lambda: {"skip": (f"re:(?!{re.escape(layer)}$).*",)},  # it starts at random: untrained, a bound
    }
    return lookup(tables, name, "pass to probe")()


def _other_layers(layer: str, graph: Channels) -> tuple[str, ...]:
    """Return the layers whose output channels are not coupled with those of ``layer``."""
    if layer not in graph.layers:
        why = "" if graph.layers else "".join(f": {reason}" for reason in graph.frozen.values())
        raise InputError(f"the channels of {layer} cannot be followed{why}")
    own = set(graph.layers[layer].outputs.tolist())
    return tuple(
        path for path, other in graph.layers.items() if other.produces and not own & set(other.outputs.tolist())
    )
