"""Heads: features (N, D) to real-valued outputs (N, bits) whose signs are the code."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ..core.errors import InputError, lookup

LAYERS: dict[str, Callable[[int], nn.Module]] = {
    "batch_norm": nn.BatchNorm1d,
    "batch_norm no affine": lambda width: nn.BatchNorm1d(width, affine=False),
    "layer_norm": nn.LayerNorm,
    "relu": lambda _: nn.ReLU(),
    "relu6": lambda _: nn.ReLU6(),
    "leaky_relu": lambda _: nn.LeakyReLU(),
    "elu": lambda _: nn.ELU(),
    "gelu": lambda _: nn.GELU(),
    "silu": lambda _: nn.SiLU(),
    "hardswish": lambda _: nn.Hardswish(),
    "tanh": lambda _: nn.Tanh(),
    "sigmoid": lambda _: nn.Sigmoid(),
    "identity": lambda _: nn.Identity(),
}
_LINEAR = re.compile(r"linear ([1-9][0-9]{0,7})( no bias)?")


def build(features: int, bits: int, layers: Sequence[str] = ()) -> nn.Module:
    """Return the head of these layers, features (N, ``features``) to outputs (N, ``bits``); without any, a dense layer.

    A layer is ``linear N``, ``linear N no bias`` or a name in :data:`LAYERS`.

    Raises:
        InputError: an unknown layer, or another number of outputs than ``bits``.
    """
    if not layers:
        return nn.Linear(features, bits)
    width, modules = features, list[nn.Module]()
    for layer in layers:
        if found := _LINEAR.fullmatch(layer):
            modules.append(nn.Linear(width, int(found[1]), bias=not found[2]))
            width = int(found[1])
        else:
            modules.append(lookup(LAYERS, layer, "layer of a head")(width))
    if width != bits:
        raise InputError(f"the head {', '.join(layers)} gives {width} outputs for {features} features, not {bits} bits")
    return nn.Sequential(*modules)


def standardize(net: nn.Module, head: nn.Linear, inputs: Tensor) -> None:
    """Scale and shift the new ``head`` of ``net``, in place, so that every bit has mean 0 and deviation 1 over ``inputs``.

    Pair losses stand still where all codes are equal, and features after a ReLU give nearly equal outputs at first.
    One batch of data sets the scale, as in LSUV (Mishkin & Matas 2016, arXiv:1511.06422).
    """
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # for dropout
        outputs = copy.deepcopy(net).train()(inputs)  # a copy, because batch norms keep statistics
        deviation, mean = torch.std_mean(outputs, dim=0)
        scale = 1 / deviation.clamp(min=1e-6)
        head.weight.mul_(scale[:, None])
        head.bias.copy_((head.bias - mean) * scale)
