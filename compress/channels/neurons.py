"""Access to the incoming and outgoing weights of the neurons of a layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from ...core.layers import get_layer
from .graph import Channels
from .similarity import Neurons


def neurons_of(net: nn.Module, graph: Channels, path: str) -> Neurons:
    """Return the incoming and outgoing weights of the layer at ``path``."""
    layer: Any = get_layer(net, path)
    weight = layer.weight.detach().flatten(1).numpy()
    bias = np.zeros(len(weight)) if layer.bias is None else layer.bias.detach().double().numpy()
    ids = graph.layers[path].outputs
    parts = [(outgoing_of(net, reader), places) for reader, places in readers(graph, ids)]
    sizes = [len(values) * places.shape[1] * values.shape[2] for values, places in parts]
    joined = np.empty((len(ids), sum(sizes)), dtype=np.float32)
    for (values, places), end in zip(parts, np.cumsum(sizes), strict=True):
        for row, place in zip(joined, places, strict=True):  # one copy, no other beside it
            row[end - len(values) * place.size * values.shape[2] : end] = values[:, place].reshape(-1)
    return Neurons(weight, bias, joined, not graph.nonhomogeneous & set(ids.tolist()))


def outgoing_of(net: nn.Module, reader: str) -> np.ndarray:
    """Return a view (O, I, area) of the weight of the layer at ``reader``."""
    weight = get_layer(net, reader).get_parameter("weight").detach()
    values: np.ndarray = weight.reshape(*weight.shape[:2], -1).numpy()
    return values


@torch.no_grad()
def put_outgoing(
    net: nn.Module, graph: Channels, path: str, changed: Mapping[int, np.ndarray], gone: Sequence[int] = ()
) -> None:
    """Write the outgoing weights (m,) of the ``changed`` neurons into the layers that read ``path``.

    Outgoing weights of ``gone`` neurons become zero, so that neurons of later layers are compared without them.
    """
    ids = graph.layers[path].outputs
    at = 0
    for reader, places in readers(graph, ids):
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


def readers(graph: Channels, ids: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Return the layers that read the channels ``ids``, with the positions (n, count) of each among their inputs."""
    result = []
    for path, layer in graph.layers.items():
        if layer.produces and np.isin(ids, layer.inputs).any():
            result.append((path, np.stack([np.flatnonzero(layer.inputs == channel) for channel in ids])))
    return result
