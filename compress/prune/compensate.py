"""Which weights of a layer go, and how those that stay make up for them.

Compensation minimises the squared change of a layer's outputs on real inputs (OBC, Frantar & Alistarh 2022,
arXiv:2208.11580; SparseGPT, arXiv:2301.00774): H is the covariance of the inputs where a bias can take up the mean
change, and their second moment where there is none. Layer after layer, inputs as the layers pruned before give them.
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
ROWS = 256  # of a weight looked at together: nothing as large as the largest layer stands beside it
LONGEST = 3e11  # rows times the cube of their inputs, up to which weights go one by one: some minutes
BLOCK = 32  # columns among which weights compete; 128 lost 1.6 times as many bits (LeNet-300-100, a tenth left)

Leaving = Callable[[float, Any], None]  # density, layer: puts the weights that stay, and the bias, into the layer


def threshold(weights: Sequence[Tensor], density: float) -> float:
    """Return the magnitude from which on ``density`` of all ``weights`` are kept; more than any has when none are."""
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
    """Return a copy of the network without the weights below each layer's threshold."""
    net = model.copied_net()
    for path, least in thresholds.items():
        layer: Any = get_layer(net, path)
        drop_smallest(layer.weight, least)
    return net


@torch.no_grad()
def drop_smallest(weight: Tensor, least: float) -> None:
    """Set to zero what is smaller than ``least``, in place."""
    for rows in weight.split(ROWS):
        rows.masked_fill_(rows.abs() < least, 0.0)


@torch.no_grad()
def compensated(
    model: HashModel, densities: Mapping[str, float], compensate: str, pixels: Pixels, seed: int
) -> nn.Module:
    """Return a copy of the network with each layer at its density, the weights that stay made up."""
    net = model.copied_net()
    changed = HashModel(net, model.arch, model.edits)
    for path, density in released(track(densities.items(), "compensating", len(densities))):
        leaving(changed, path, compensate, pixels, seed)(density, get_layer(net, path))
    return net


def uncompensated(model: HashModel, paths: Collection[str]) -> dict[str, str]:
    """Return which of these layers are pruned by magnitude alone whatever is asked, and why."""
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
    """Return why the weights of a layer cannot go one by one."""
    layer: Any = get_layer(net, path)
    rows, inputs = layer.weight.flatten(1).shape
    return f"{rows} rows of {inputs} inputs, too many to go weight by weight" if rows * inputs**3 > LONGEST else None


def leaving(model: HashModel, path: str, compensate: str, pixels: Pixels, seed: int) -> Leaving:
    """Return what leaves a share of a layer's weights in it or in a copy; inputs are measured here, once for all shares."""
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
