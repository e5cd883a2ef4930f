"""Channels taken out of a layer: the function that cuts, and the edits that a thinner network leaves.

Edits keep numbers, not lists: which channels stayed is in the values, and an empty network has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from ...core.errors import ModelFileError
from ...core.layers import get_layer

Index = slice | torch.Tensor
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


@dataclass(frozen=True)
class Narrowed:
    """``layer`` has only so many input and output channels (features of a dense layer, channels of a norm) left."""

    kind: ClassVar[str] = "narrowed"
    layer: str
    inputs: int
    outputs: int

    def apply(self, net: nn.Module) -> None:
        """Make the layer smaller; which of its values stay does not matter here."""
        layer = get_layer(net, self.layer)
        if not isinstance(layer, nn.Conv2d | nn.Linear | nn.BatchNorm1d | nn.BatchNorm2d):
            raise ModelFileError(f"{self}: this layer is a {type(layer).__name__}, it has no channels to take out")
        inputs, outputs = widths(layer)
        if not 1 <= self.inputs <= inputs or not 1 <= self.outputs <= outputs:
            raise ModelFileError(f"{self}: this layer has {inputs} inputs and {outputs} outputs")
        if isinstance(layer, nn.Conv2d) and layer.groups > 1 and self.inputs != self.outputs:
            raise ModelFileError(f"{self}: a depthwise layer has as many inputs as outputs")
        narrow(layer, slice(self.inputs), slice(self.outputs))


@dataclass(frozen=True)
class Repadded:
    """The shortcut of ``layer`` puts other numbers of zero channels before and behind its input."""

    kind: ClassVar[str] = "repadded"
    layer: str
    before: int
    behind: int

    def apply(self, net: nn.Module) -> None:
        """Set the two numbers."""
        block: Any = get_layer(net, self.layer)
        old = (getattr(block, "before", None), getattr(block, "behind", None))
        if not all(type(value) is int for value in old):
            raise ModelFileError(f"{self}: this layer is a {type(block).__name__}, its shortcut has no zero channels")
        if not 0 <= self.before <= old[0] or not 0 <= self.behind <= old[1]:  # type: ignore[operator]  # checked above
            raise ModelFileError(f"{self}: this shortcut has {old[0]} zero channels before and {old[1]} behind")
        block.before, block.behind = self.before, self.behind


def widths(layer: Any) -> tuple[int, int]:
    """Return the number of input and output channels."""
    if isinstance(layer, NORMS):
        return layer.num_features, layer.num_features
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    return layer.in_channels, layer.out_channels


@torch.no_grad()
def narrow(layer: Any, inputs: Index, outputs: Index) -> None:
    """Keep these channels of a convolution, dense layer or batch norm, in place."""
    if isinstance(layer, NORMS):
        for name in ("weight", "bias", "running_mean", "running_var"):
            _keep(layer, name, outputs)
        layer.num_features = len(_range(layer.num_features, outputs))
        return
    depthwise = isinstance(layer, nn.Conv2d) and layer.groups > 1
    taken = slice(None) if depthwise else inputs
    if isinstance(taken, slice) and isinstance(outputs, slice):
        weight = layer.weight[outputs, taken].clone()
    else:  # both at once: large layers are not copied twice
        rows = outputs if isinstance(taken, slice) or isinstance(outputs, slice) else outputs[:, None]
        weight = layer.weight[rows, taken]
    layer.weight = nn.Parameter(weight, layer.weight.requires_grad)
    _keep(layer, "bias", outputs)
    if isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = layer.weight.shape
        return
    layer.out_channels = layer.weight.shape[0]
    layer.in_channels = layer.out_channels if depthwise else layer.weight.shape[1]
    if depthwise:
        layer.groups = layer.out_channels


def _keep(layer: Any, name: str, index: Index) -> None:
    values = getattr(layer, name)
    if values is None:
        return
    kept = values[index].clone()
    setattr(layer, name, nn.Parameter(kept, values.requires_grad) if isinstance(values, nn.Parameter) else kept)


def _range(count: int, index: Index) -> Sequence[int] | torch.Tensor:
    return range(count)[index] if isinstance(index, slice) else index
