"""Pruning of a layer by magnitude, or with compensation by the remaining weights (OBC, SparseGPT).

Compensation minimises the squared change of the outputs of a layer on real inputs (OBC, Frantar & Alistarh 2022,
arXiv:2208.11580; SparseGPT, arXiv:2301.00774): H is the covariance of the inputs if a bias can absorb the mean change,
and their second moment otherwise. Layers are processed in order, with inputs from the layers pruned before.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...core.data.images import Pixels
from ...core.errors import InputError
from ...core.heap import released
from ...core.layers import get_layer
from ...core.model import HashModel
from ...core.progress import track
from .. import obs
from ..observe.macs import count
from ..observe.moments import patch_moments

COMPENSATIONS = ("none", "obs", "exact")
ROWS = 256  # rows of a weight processed at once, to save memory
LONGEST = 3e11  # rows times the cube of their inputs, up to which weights go one by one: some minutes
BLOCK = 32  # columns among which weights compete; 128 lost 1.6 times as many bits (LeNet-300-100, a tenth left)

Pruner = Callable[[float, Any], None]  # density, layer: puts the weights that stay, and the bias, into the layer


def threshold(weights: Sequence[Tensor], density: float) -> float:
    """Return the least magnitude to keep so that a share ``density`` of all ``weights`` remains; the largest float if none does."""
    magnitudes = np.empty(sum(weight.numel() for weight in weights), dtype=np.float32)
    keep, at = round(density * magnitudes.size), 0
    if keep == 0:
        return float(np.finfo(np.float32).max)
    for weight in weights:
        part = magnitudes[at : at + weight.numel()]
        np.abs(weight.detach().reshape(-1).numpy(), out=part)
        at += weight.numel()
    magnitudes.partition(magnitudes.size - keep)  # in place: the largest layers have a hundred megabytes
    return float(magnitudes[magnitudes.size - keep])


@torch.no_grad()
def zeroed(model: HashModel, thresholds: Mapping[str, float]) -> nn.Module:
    """Return a copy of the network with weights below the threshold of their layer set to zero."""
    net = model.copy_net()
    for path, least in thresholds.items():
        layer: Any = get_layer(net, path)
        drop_smallest(layer.weight, least)
    return net


@torch.no_grad()
def drop_smallest(weight: Tensor, least: float) -> None:
    """Set weights with a magnitude below ``least`` to zero, in place."""
    for rows in weight.split(ROWS):
        rows.masked_fill_(rows.abs() < least, 0.0)


@torch.no_grad()
def compensated(
    model: HashModel, densities: Mapping[str, float], compensate: str, pixels: Pixels, seed: int
) -> nn.Module:
    """Return a copy of the network with each layer pruned to its density with compensation."""
    net = model.copy_net()
    changed = HashModel(net, model.arch, model.edits)
    for path, density in released(track(densities.items(), "compensating", len(densities))):
        pruner_of(changed, path, compensate, pixels, seed)(density, get_layer(net, path))
    return net


def uncompensated(model: HashModel, paths: Collection[str]) -> dict[str, str]:
    """Return the layers that are pruned by magnitude even with compensation, with the reason."""
    try:
        ran = {path for path, cost in count(model).by_path.items() if cost.macs}
    except InputError:  # foreign code that takes no hollow tensors
        ran = {*paths}
    reasons = {}
    for path in paths:
        layer: Any = get_layer(model.net, path)
        if path not in ran:
            reasons[path] = "it did not run"
        elif (inputs := layer.weight[0].numel()) > obs.MOST:
            reasons[path] = f"{inputs} inputs, more than {obs.MOST}"
    return reasons


def in_blocks(net: nn.Module, path: str) -> str | None:
    """Return why the weights of a layer cannot be removed one by one, or None."""
    layer: Any = get_layer(net, path)
    rows, inputs = layer.weight.flatten(1).shape
    return f"{rows} rows of {inputs} inputs, too many to go weight by weight" if rows * inputs**3 > LONGEST else None


def pruner_of(model: HashModel, path: str, compensate: str, pixels: Pixels, seed: int) -> Pruner:
    """Return a function that prunes a layer, or a copy of it, to a density; inputs are measured once for all densities."""
    layer: Any = get_layer(model.net, path)
    weight, bias = layer.weight.detach(), layer.bias
    if compensate == "none" or uncompensated(model, [path]):
        return lambda density, layer: _leave_largest(weight, density, layer)
    moments = patch_moments(model, pixels, path, seed=seed)
    means = [torch.from_numpy(group.mean) for group in moments]
    seconds = [torch.from_numpy(group.covariance) for group in moments]
    if bias is None:
        seconds = [second + torch.outer(mean, mean) for second, mean in zip(seconds, means, strict=True)]
    hessians = [obs.damped(2 * second) for second in seconds]
    rows = weight.flatten(1).double().chunk(len(moments))  # of each group of a convolution

    if compensate == "exact" and not in_blocks(model.net, path):
        orders = [obs.removals(W, H) for W, H in zip(rows, hessians, strict=True)]

        def masks(density: float) -> list[Tensor]:
            return [order.kept(round(density * order.order.numel())) for order in orders]
    else:

        def masks(density: float) -> list[Tensor]:
            return [obs.prune_blocked(W, H, density, block=BLOCK) != 0 for W, H in zip(rows, hessians, strict=True)]

    @torch.no_grad()
    def leave(density: float, layer: Any) -> None:
        made = [obs.best_given_mask(*each) for each in zip(rows, hessians, masks(density), strict=True)]
        layer.weight.copy_(torch.cat(made).float().view_as(weight))
        if bias is not None:
            lost = [(W - V) @ mean for W, V, mean in zip(rows, made, means, strict=True)]
            layer.bias.copy_(bias.detach() + torch.cat(lost).float())

    return leave


@torch.no_grad()
def _leave_largest(weight: Tensor, density: float, layer: Any) -> None:
    least = threshold([weight], density)
    layer.weight.copy_(weight)
    drop_smallest(layer.weight, least)
