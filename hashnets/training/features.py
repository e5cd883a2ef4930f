"""The head of a network and the features it sees: for systems that leave the encoder as it is, which then runs once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ...core.data.items import Items
from ...core.data.vectors import Vectors
from ...core.errors import InputError
from ...core.inputs import VectorInput
from ...core.model import Arch, HashModel
from ..retrieval.codes import outputs


def head_and_features(net: nn.Module, arch: Arch, items: Items) -> tuple[nn.Linear, Vectors, VectorInput]:
    """Return the head of ``net`` itself, the encoder's features (N, D) of all items with their labels, and the head's input.

    Raises:
        InputError: a network that is not an encoder with one dense layer behind it.
    """
    encoder: Any = getattr(net, "encoder", None)
    head = getattr(net, "head", None)
    if encoder is None or not isinstance(head, nn.Linear):
        raise InputError(
            "this system works on the features before the hash head, one dense layer, and this network has no such layer; "
            "take a system that trains the whole network"
        )
    features = outputs(HashModel(encoder, replace(arch, bits=head.in_features)), items.values)
    return head, Vectors(features, items.labels, items.label_type), VectorInput(head.in_features)


def solve_head(head: nn.Linear, system: Any, features: Vectors) -> None:
    """Set ``head`` in place to the weight and bias that ``system.solve`` finds for the features."""
    weight, bias = system.solve(torch.from_numpy(features.values))
    with torch.no_grad():
        head.weight.copy_(weight)
        head.bias.copy_(bias)
