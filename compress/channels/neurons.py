"""The weights into and out of a layer's neurons, found by label, read and written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from ...core.layers import get_layer
from .graph import Channels
from .similarity import Neurons


def neurons_of(net: nn.Module, found: Channels, path: str) -> Neurons:
    """Return the weights into and out of the layer at ``path``."""
    layer: Any = get_layer(net, path)
    weight = layer.weight.detach().flatten(1).numpy()
    bias = np.zeros(len(weight)) if layer.bias is None else layer.bias.detach().double().numpy()
    labels = found.layers[path].outputs
    parts = [(outgoing_of(net, reader), places) for reader, places in readers(found, labels)]
    sizes = [len(values) * places.shape[1] * values.shape[2] for values, places in parts]
    joined = np.empty((len(labels), sum(sizes)), dtype=np.float32)
    for (values, places), end in zip(parts, np.cumsum(sizes), strict=True):
        for row, place in zip(joined, places, strict=True):  # one copy, no other beside it
            row[end - len(values) * place.size * values.shape[2] : end] = values[:, place].reshape(-1)
    return Neurons(weight, bias, joined, not found.crooked & set(labels.tolist()))


def outgoing_of(net: nn.Module, reader: str) -> np.ndarray:
    """Return the weights (O, I, area) of the layer at ``reader``, not copied."""
    weight = get_layer(net, reader).get_parameter("weight").detach()
    values: np.ndarray = weight.reshape(*weight.shape[:2], -1).numpy()
    return values


@torch.no_grad()
def put_outgoing(
    net: nn.Module, found: Channels, path: str, changed: Mapping[int, np.ndarray], gone: Sequence[int] = ()
) -> None:
    """Write the outgoing weights (m,) of the neurons that changed into the layers that read ``path``.

    Those of neurons that have ``gone`` become zero, so that neurons behind are compared without them.
    """
    labels = found.layers[path].outputs
    at = 0
    for reader, places in readers(found, labels):
        layer: Any = get_layer(net, reader)
        own = layer.weight.detach().clone(memory_format=torch.contiguous_format)
        layer.weight = nn.Parameter(own, layer.weight.requires_grad)
        weight = outgoing_of(net, reader)  # (O, I, area)
        size = len(weight) * places.shape[1] * weight.shape[2]
        for neuron, values in changed.items():
            weight[:, places[neuron]] = values[at : at + size].reshape(len(weight), -1, weight.shape[2])
        for neuron in gone:
            weight[:, places[neuron]] = 0
        at += size


def readers(found: Channels, labels: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Return the layers that read ``labels`` with the places (n, count) of each among their inputs."""
    result = []
    for path, layer in found.layers.items():
        if layer.produces and np.isin(labels, layer.inputs).any():
            result.append((path, np.stack([np.flatnonzero(layer.inputs == label) for label in labels])))
    return result
