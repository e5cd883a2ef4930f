"""Neurons without weights give a constant, which the biases behind can take up: they go, and nothing changes.

What a constant is where it is read is seen, not derived: one image runs through the network. A constant of zero needs no
bias. Zero padding lies in the way of any other, as it is not there at the border.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import nn

from ...core.inputs import Input
from ...core.layers import get_layer
from ..observe.hooks import first_call
from .graph import Channels
from .neurons import outgoing_of, readers

Gains = dict[str, np.ndarray]  # reader -> what its bias gains (O,), where that is not zero


@torch.no_grad()
def taken_up(
    net: nn.Module, found: Channels, path: str, still: Iterable[int], spec: Input
) -> tuple[dict[int, Gains], str]:
    """Return what the biases behind gain for each of the neurons ``still`` of ``path``, which have no weights.

    Those that cannot go are not among them; the text says why, for one of them.
    """
    free: dict[int, Gains] = {int(neuron): {} for neuron in still}
    why = ""
    for reader, places in readers(found, found.layers[path].outputs) if free else ():
        layer: Any = get_layer(net, reader)
        given = first_call(net, reader, spec.example())[0][0].double()
        pixels = given.reshape(len(given), -1).numpy()  # (I, places of the image)
        for neuron in list(free):
            values = pixels[places[neuron]]
            if not values.any():
                continue
            refusal = _refusal(reader, layer, values)
            if refusal:
                del free[neuron]
                why = refusal
            else:
                free[neuron][reader] = outgoing_of(net, reader)[:, places[neuron]].sum(2, dtype=float) @ values[:, 0]
    return free, why


@torch.no_grad()
def put_biases(net: nn.Module, gains: Iterable[Gains]) -> None:
    """Add what constants that go were to the layers that read them, in place."""
    for gain in gains:
        for reader, more in gain.items():
            layer: Any = get_layer(net, reader)
            bias = (layer.bias.detach().double() + torch.from_numpy(more)).to(layer.bias.dtype)
            layer.bias = nn.Parameter(bias, layer.bias.requires_grad)  # the old one may be another layer's too


def _refusal(reader: str, layer: nn.Conv2d | nn.Linear, values: np.ndarray) -> str:
    if layer.bias is None:
        return f"{reader!r} has no bias to take up what they give"
    if isinstance(layer, nn.Conv2d) and layer.padding_mode == "zeros":
        wide = (
            layer.kernel_size != (1, 1) if layer.padding == "same" else layer.padding != "valid" and any(layer.padding)
        )
        if wide:
            return f"{reader!r} pads with zeros, where what they give is missing"
    if (values != values[:, :1]).any():
        return f"what they give is not the same everywhere for {reader!r}"
    return ""
