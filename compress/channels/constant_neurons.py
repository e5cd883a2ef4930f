"""Removal of neurons without weights: their constant outputs are absorbed by the biases of the next layers.

The constants are observed on one image at the inputs of the next layers. A constant of zero needs no bias. Other
constants cannot be absorbed by layers with zero padding, since they are missing at the border.
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
def absorbed_constants(
    net: nn.Module, graph: Channels, path: str, zero_rows: Iterable[int], spec: Input
) -> tuple[dict[int, Gains], str]:
    """Return what each neuron ``zero_rows`` of ``path``, which has no weights, adds to the biases of the next layers.

    Neurons that cannot be removed are not included; the second value is the reason for one of them.
    """
    free: dict[int, Gains] = {int(neuron): {} for neuron in zero_rows}
    why = ""
    for reader, places in readers(graph, graph.layers[path].outputs) if free else ():
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
def add_to_biases(net: nn.Module, gains: Iterable[Gains]) -> None:
    """Add the constants of removed neurons to the biases of the layers that read them, in place."""
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
