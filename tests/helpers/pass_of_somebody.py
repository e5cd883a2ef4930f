"""A pass, and the layer it leaves, as somebody outside of hashpress writes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import hashpress as hp
import numpy as np
import torch
from hashpress.core.layers import get_layer
from hashpress.modelfile.layers.base import CompressedWeight, compress_layer
from torch import nn


class SignWeight(CompressedWeight):
    """A weight of signs, times a factor for each output channel."""

    signs: torch.Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape
        self.register_buffer("signs", torch.ones(shape, dtype=torch.int8))
        self.factor = nn.Parameter(torch.ones(shape[0]))  # (O,)

    def forward(self) -> torch.Tensor:
        """Return the dense weight."""
        return self.signs * self.factor.view(-1, *[1] * (len(self.shape) - 1))


@dataclass(frozen=True)
class Signed:
    """The weight of ``layer`` is signs times factors."""

    kind: ClassVar[str] = "signed"
    layer: str

    def apply(self, net: nn.Module) -> None:
        """Put the layer in its new form."""
        layer: Any = get_layer(net, self.layer)
        compress_layer(net, self.layer, SignWeight(tuple(layer.weight.shape)))

    @staticmethod
    def decode(form: Mapping[str, np.ndarray], edit: Mapping[str, Any]) -> np.ndarray:
        """Return the weight for readers without torch."""
        assert edit["layer"]
        signs = form["signs"]
        return signs * form["factor"].reshape(-1, *[1] * (signs.ndim - 1))


@dataclass(frozen=True)
class KeepSigns(hp.Pass):
    """Keep the signs of one layer's weights and their mean size."""

    name: ClassVar[str] = "keepsigns"
    phase: ClassVar[str] = "values"
    layer: str = "head"

    def decide(self, model: hp.HashModel, context: hp.Context) -> hp.Decision:
        """Return the mean sizes, and the signs as the plan."""
        del context
        weight = get_layer(model.net, self.layer).get_parameter("weight").detach()
        sizes = weight.abs().flatten(1).mean(1)
        skipped = {"encoder": "only one layer is treated"}
        return hp.Decision(
            {"layers": {self.layer: {"sizes": sizes.tolist()}}, "skipped": skipped}, (weight >= 0, sizes)
        )

    @torch.no_grad()
    def apply(self, model: hp.HashModel, decision: hp.Decision, context: hp.Context) -> hp.HashModel:
        """Return the model with one layer of signs."""
        net, edit = model.copy_net(), Signed(self.layer)
        edit.apply(net)
        form: Any = get_layer(net, self.layer).get_submodule("form")
        positive, sizes = decision.plan
        form.signs.copy_(2 * positive.to(torch.int8) - 1)
        form.factor.copy_(sizes)
        return model.edited(net, [edit], self.step(context.seed))
