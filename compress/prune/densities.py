"""Allocation of densities to layers by their measured sensitivity, under one budget.

Curves are measured in flipped bits, which need no labels. Flips of independent causes are not additive, but 1 - 2f is
multiplicative: costs are -log(1 - 2f), and a layer that would randomise its bits has unbounded cost. On the lower
convex hulls of the curves the cheapest weights are removed first, which has the least cost for every total.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...core.data.images import Pixels
from ...core.heap import released
from ...core.layers import get_layer
from ...core.model import HashModel
from ...core.progress import track
from ...hashnets.retrieval.codes import outputs
from ..allocate import HullSide, sides, spend
from ..observe.replay import Replay
from .compensate import pruner_of

STEPS = 10  # densities measured per layer, in equal ratios
LOWEST = 0.01  # the smallest density measured for a limit on flips
WORST = 0.499  # flips of a code that says nothing are a half

Curve = Sequence[tuple[float, float]]  # (density, share of flipped bits), from dense to sparse


def amounts(density: float | None) -> list[float]:
    """Return the densities to measure for an overall ``density``."""
    lowest = LOWEST if density is None else max(density / 5, 1e-6)
    return [lowest ** (step / STEPS) for step in range(1, STEPS + 1)]


def measured(
    model: HashModel, paths: Sequence[str], points: Sequence[float], compensate: str, pixels: Pixels, seed: int
) -> dict[str, Curve]:
    """Return the curve of each layer, pruned alone with the given compensation, on ``pixels`` (N, C, H, W)."""
    before = outputs(model, pixels) >= 0

    def curve(path: str) -> Curve:
        net = model.copy_sharing_memory(writing=[path])
        layer, changed = get_layer(net, path), HashModel(net, model.arch, model.edits)
        leave, found = pruner_of(model, path, compensate, pixels, seed), []
        replay = Replay.around(model, path, pixels)
        for density in released(points):  # running the network fragments the heap
            leave(density, layer)
            found.append((density, float(((replay.outputs(changed) >= 0) != before).mean())))
        return found

    return {path: curve(path) for path in track(paths, "probing")}


def allocated(
    sizes: Mapping[str, int], curves: Mapping[str, Curve], *, density: float | None = None, flips: float | None = None
) -> dict[str, float]:
    """Return the density of each layer: an overall ``density`` at the least cost, or the lowest densities with ``flips``."""
    steps = [side for path, size in sizes.items() for side in _sides(path, size, curves[path])]
    gone = spend(
        steps,
        amount=np.inf if density is None else (1 - density) * sum(sizes.values()),
        budget=np.inf if flips is None else cost(flips),
    )
    return {path: max(0.0, 1 - gone.get(path, 0.0) / sizes[path]) for path in sizes}


def predicted(sizes: Mapping[str, int], curves: Mapping[str, Curve], densities: Mapping[str, float]) -> float:
    """Return the expected share of flipped bits at these densities."""
    total = 0.0
    for path, density in densities.items():
        left = (1 - density) * sizes[path]
        for side in _sides(path, sizes[path], curves[path]):
            total += side.price * min(left, side.length)
            left -= min(left, side.length)
    return float((1 - np.exp(-total)) / 2)


def cost(flips: float) -> float:
    """Return the cost of a share of flipped bits."""
    return float(-np.log(1 - 2 * min(flips, WORST)))


def _sides(path: str, size: int, curve: Curve) -> list[HullSide]:
    """Return the sides of the lower convex hull of a curve, cheapest first: cost per weight, path, number of weights."""
    worst, points = 0.0, [(0.0, 0.0)]
    for density, flips in curve:
        worst = max(worst, cost(flips))
        points.append(((1 - density) * size, worst))
    return sides(path, points)
