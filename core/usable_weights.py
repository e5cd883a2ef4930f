"""Check for weights that no training or pass can process: not finite, or so large that their squares overflow."""

from __future__ import annotations

import math

import torch
from torch import nn

LARGEST = 1e15  # of a layer's weights: their squares, summed over a layer, are far from the end of single precision
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
STATISTICS = ("running_mean", "running_var")


def max_abs(values: torch.Tensor) -> float:
    """Return the maximum of ``|values|``, NaN if any value is NaN, 0 for an empty tensor; allocates no tensor of that size."""
    if not values.numel():
        return 0.0
    low, high = torch.aminmax(values.detach())
    return max(-float(low), float(high))


def not_finite(net: nn.Module) -> str:
    """Return which parameter or statistic of a network is NaN or infinite, or an empty string; tables may hold anything."""
    learned = {id(value) for value in net.parameters()}
    for name, value in net.state_dict(keep_vars=True).items():
        if value.dtype not in FLOATS or value.is_meta or value.layout is not torch.strided:
            continue
        if not math.isfinite(most := max_abs(value)) and (id(value) in learned or name.endswith(STATISTICS)):
            return f"{name} has {most:g} in it"
    return ""


def unusable(net: nn.Module) -> str:
    """Return which values of a network are not finite or too large to be squared, or an empty string."""
    for path, layer in net.named_modules():
        most = LARGEST if isinstance(layer, nn.Conv2d | nn.Linear) else math.inf
        values = dict(layer.named_parameters(recurse=False))
        values |= {name: value for name, value in layer.named_buffers(recurse=False) if name in STATISTICS}
        for name, value in values.items():
            if value.is_floating_point() and not max_abs(value) < most:
                return f"layer {path!r} has {max_abs(value):g} in its {name}"
    return ""
