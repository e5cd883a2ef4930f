"""The edit that low-rank passes leave."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from ..core.errors import ModelFileError
from ..core.layers import get_layer, set_layer
from .layers.factored import Ranks, chain
from .macs import Costs, Shape, count_net


@dataclass(frozen=True)
class Factored:
    """The layer became a chain of smaller ones, whose ``form`` and ``ranks`` layers/factored.py explains."""

    kind: ClassVar[str] = "factored"
    layer: str
    form: str
    ranks: tuple[int, ...]
    bias: bool = False  # the chain has a bias although the layer had none

    def apply(self, net: nn.Module) -> None:
        """Put the chain in the layer's place."""
        layer = get_layer(net, self.layer)
        if not isinstance(layer, nn.Conv2d | nn.Linear):
            raise ModelFileError(f"{self}: this layer is a {type(layer).__name__}, a Conv2d or Linear was expected")
        made = chain(layer, self.form, self.ranks, bias=self.bias or layer.bias is not None)
        set_layer(net, self.layer, made.train(layer.training))


def chain_cost(layer: nn.Conv2d | nn.Linear, form: str, ranks: Ranks, shape: Shape, *, bias: bool = False) -> Costs:
    """Return what the chain in the place of ``layer`` would cost for an input of ``shape``.

    With ``bias`` it has one although the layer may have none.
    """
    memo = {id(value): nn.Parameter(torch.empty_like(value, device="meta")) for value in layer.parameters()}
    hollow = copy.deepcopy(layer, memo)  # type: ignore[arg-type]  # ids are what the memo is keyed by
    return count_net(chain(hollow, form, ranks, bias=bias or layer.bias is not None), shape)
