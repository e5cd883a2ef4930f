"""The cost of a chain of small layers in the place of one."""

from __future__ import annotations

import copy

import torch
from torch import nn

from ..modelfile.layers.factored import Ranks, chain
from .macs import Costs, Shape, count_net


def chain_cost(layer: nn.Conv2d | nn.Linear, form: str, ranks: Ranks, shape: Shape, *, bias: bool = False) -> Costs:
    """Return what the chain in the place of ``layer`` would cost for an input of ``shape``.

    With ``bias`` it has one although the layer may have none.
    """
    memo = {id(value): nn.Parameter(torch.empty_like(value, device="meta")) for value in layer.parameters()}
    hollow = copy.deepcopy(layer, memo)  # type: ignore[arg-type]  # ids are what the memo is keyed by
    return count_net(chain(hollow, form, ranks, bias=bias or layer.bias is not None), shape)
