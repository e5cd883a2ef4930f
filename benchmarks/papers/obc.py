"""Compensated pruning and rounding after training (OBC, arXiv:2208.11580; SparseGPT; GPTQ) on a 48-bit ResNet-20.

    HASHPRESS_DATA=DIR python -m benchmarks.papers.obc [STAGE ...]

Stages ``prune`` (densities, by magnitude and compensated) and ``round`` (4, 3 and 2 bits, by the nearest and compensated);
``exact`` adds the row-by-row forms, which take longer. The network is the one of ``benchmarks.spine``, or the 48-bit
ResNet-20 in the model file that RESNET20 names. First layer and head stay as they are, biases are not
corrected, H comes from 1,024 training images; no labels, no fine-tuning. Judged by 2,000 queries against 10,000 images.
The paper has ImageNet cells only: they stand beside ours for the ordering, not for the values.
"""

# ruff: noqa: N803  matrices keep the capital letters of the papers

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from hashpress.compress import obs
from hashpress.compress.fold import Fold
from hashpress.compress.integers import ranges
from hashpress.compress.observe.moments import patch_moments
from hashpress.compress.observe.sampling import choose
from hashpress.core.layers import get_layer
from hashpress.core.model import HashModel, Step
from hashpress.modelfile.file import load

from ..lib.cells import SEED, Book, Output, Row, Target, run
from ..lib.hashing import cifar10, hasher, judged, resnet20

BOOK = Book("obc")
IMAGES = 1024
DENSITIES = (0.5, 0.33, 0.25)
BITS = (4, 3, 2)
SOURCE = "a public note on the paper's tables"
PAPER = {
    "note": f"{SOURCE}, not checked against the paper; ImageNet, top-1",
    "resnet50_full": 76.13,
    "resnet50_2x_3x_4x": {
        "exactobs": [75.64, 75.01, 74.05],
        "adaprune": [75.53, 74.47, 72.39],
        "magnitude": [74.86, 71.44, 64.84],
    },
    "resnet18_full": 69.76,
    "resnet18_w4_w3_w2": {"obq": [69.56, 68.69, 64.04], "adaround": [69.34, 68.37, 63.37]},
}
Change = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # weight (rows, d), H -> weight


@cache
def network() -> HashModel:
    """Return the trained network, batch norms folded."""
    path = os.environ.get("RESNET20")
    return Fold()(load(path)) if path else resnet20()


@cache
def hessians() -> dict[str, torch.Tensor]:
    """Return damped H of the inner convolutions."""
    model, pixels = network(), choose(cifar10(), IMAGES, SEED)
    found = {}
    for path in inner(model):
        moments = patch_moments(model, pixels, path, places=32, seed=SEED)[0]
        found[path] = obs.damped(2 * torch.from_numpy(moments.covariance + np.outer(moments.mean, moments.mean)))
    return found


def inner(model: HashModel) -> list[str]:
    """Return the layers between the first and the head."""
    return [path for path in ranges.layers_of(model.net)[1:] if path != "head"]


@torch.no_grad()
def changed(change: Change) -> HashModel:
    """Return the network after ``change`` of every inner layer."""
    model = network()
    net = model.copy_net()
    for path, H in hessians().items():
        layer: Any = get_layer(net, path)
        layer.weight.copy_(change(layer.weight.flatten(1).double(), H).float().view_as(layer.weight))
    return model.edited(net, (), Step("obs"))


def cell(name: str, change: Change) -> None:
    """Compute one cell."""
    reference = hasher(network())
    BOOK.cell(name, lambda: judged(hasher(changed(change)), reference))


def cut(density: float) -> Change:
    """Return magnitude pruning."""
    return lambda W, H: torch.where(W.abs() >= W.abs().flatten().quantile(1 - density), W, 0.0)  # noqa: ARG005


def onto(bits: int, W: torch.Tensor) -> tuple[obs.Quantiser, torch.Tensor]:
    """Return a grid of ``bits`` whose steps have the least square error, and the steps."""
    top = (1 << (bits - 1)) - 1
    steps = ranges.weight_scales(W, "mse", bits).double()
    return lambda values, rows: torch.clamp(torch.round(values / steps[rows]), -top, top) * steps[rows], steps


def nearest(bits: int) -> Change:
    """Return rounding to the nearest."""
    return lambda W, H: onto(bits, W)[0](W, torch.arange(len(W))[:, None].expand_as(W))  # noqa: ARG005


def prune() -> None:
    """Prune without retraining."""
    BOOK.cell("original", lambda: judged(hasher(network()), hasher(network())))
    for density in DENSITIES:
        cell(f"prune-{density}-magnitude", cut(density))
        cell(f"prune-{density}-sparsegpt", lambda W, H, d=density: obs.prune_blocked(W, H, d, block=32))
        cell(
            f"prune-{density}-magnitude-refitted",
            lambda W, H, d=density: obs.best_given_mask(W, H, cut(d)(W, H) != 0),
        )


def rounded() -> None:
    """Round without retraining."""
    BOOK.cell("original", lambda: judged(hasher(network()), hasher(network())))
    for bits in BITS:
        cell(f"round-{bits}-nearest", nearest(bits))
        cell(f"round-{bits}-gptq", lambda W, H, b=bits: obs.quantise_blocked(W, H, onto(b, W)[0]))


def exact() -> None:
    """Do the same weight by weight."""
    for density in DENSITIES:
        cell(f"prune-{density}-obc", lambda W, H, d=density: obs.prune_exact(W, H, round(d * W.numel())))
    for bits in BITS:
        cell(f"round-{bits}-obq", lambda W, H, b=bits: obs.quantise_exact(W, H, *onto(b, W)))


def rows() -> list[Row]:
    """Return the paper's losses, then ours of the same kind: ImageNet is not at hand, so the ordering is what compares."""
    made: list[Row] = []
    tables: tuple[tuple[str, Any, Any, tuple[str, ...]], ...] = (
        ("ResNet-50, ImageNet, {} fewer multiplications, ", "resnet50_full", "resnet50_2x_3x_4x", ("2x", "3x", "4x")),
        ("ResNet-18, ImageNet, weights of {} bits, ", "resnet18_full", "resnet18_w4_w3_w2", ("4", "3", "2")),
    )
    for what, full, table, levels in tables:
        for method, values in PAPER[table].items():  # type: ignore[attr-defined]
            for level, value in zip(levels, values, strict=True):
                lost = round(PAPER[full] - value, 2)  # type: ignore[operator]
                name = what.format(level) + method
                made.append(Row(name, "points of top-1 lost", lost, None, "no ImageNet here", SOURCE))
    original = BOOK.value("original", "map")
    for what, kind, levels, methods in (
        ("{:.0%} of the inner weights kept", "prune", DENSITIES, ("obc", "sparsegpt", "magnitude-refitted", "magnitude")),
        ("inner weights of {} bits", "round", BITS, ("obq", "gptq", "nearest")),
    ):  # fmt: skip
        for level in levels:
            for method in methods:
                value = BOOK.value(f"{kind}-{level}-{method}", "map")
                lost = None if None in (value, original) else round(100 * (original - value), 2)
                made.append(
                    Row(f"ResNet-20, CIFAR-10, {what.format(level)}, {method}", "points of mAP lost", None, lost)
                )
    return made


def finish(output: Output) -> None:
    """Write the table."""
    cells = BOOK.found()
    targets = []
    for rough, fine in (("magnitude", "sparsegpt"), ("magnitude", "obc"), ("nearest", "gptq"), ("nearest", "obq")):
        for name, value in cells.items():
            other = name.replace(rough, fine)
            if name.endswith(rough) and other in cells:
                gain = cells[other]["flips_percent"] - value["flips_percent"]
                targets.append(Target(f"{other} against {rough}: bits flipped, points", round(gain, 4), "<=", 0.0))
    if cells:
        BOOK.publish(output, PAPER, targets, rows(), settings={"images": IMAGES})


if __name__ == "__main__":
    run({"prune": prune, "round": rounded, "exact": exact}, finish)
