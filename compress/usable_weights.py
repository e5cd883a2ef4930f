"""Check for weights that no pass can process: not finite, or so large that their squares overflow."""

from __future__ import annotations

import math

from torch import nn

from ..modelfile.layers.base import max_abs

LARGEST = 1e15  # of a layer's weights: their squares, summed over a layer, are far from the end of single precision
STATISTICS = ("running_mean", "running_var")


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
