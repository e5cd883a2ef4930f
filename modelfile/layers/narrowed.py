"""Channel removal: a function that keeps the given channels of a layer, and the edits that record the new widths.

Edits store numbers of channels, not lists: the channels that remain are known from the values in the file.
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
    """The edit that reduces ``layer`` to ``inputs`` and ``outputs`` channels (features of a Linear or a batch norm)."""

    kind: ClassVar[str] = "narrowed"
    layer: str
    inputs: int
    outputs: int

    def apply(self, net: nn.Module) -> None:
        """Keep the first channels; loading replaces the values, so only their number matters."""
        layer = get_layer(net, self.layer)
        if not isinstance(layer, nn.Conv2d | nn.Linear | nn.BatchNorm1d | nn.BatchNorm2d):
            raise ModelFileError(f"{self}: expected a Conv2d, Linear or batch norm, found a {type(layer).__name__}")
        inputs, outputs = widths(layer)
        if not 1 <= self.inputs <= inputs or not 1 <= self.outputs <= outputs:
            raise ModelFileError(
                f"{self}: expected at most {inputs} inputs and {outputs} outputs, which this layer has"
            )
        if isinstance(layer, nn.Conv2d) and layer.groups > 1 and self.inputs != self.outputs:
            raise ModelFileError(f"{self}: expected as many inputs as outputs, because this convolution is depthwise")
        narrow(layer, slice(self.inputs), slice(self.outputs))


@dataclass(frozen=True)
class Repadded:
    """The edit that sets how many zero channels the shortcut of ``layer`` pads before and after its input."""

    kind: ClassVar[str] = "repadded"
    layer: str
    before: int
    behind: int

    def apply(self, net: nn.Module) -> None:
        """Set the attributes ``before`` and ``behind`` of the block."""
        block: Any = get_layer(net, self.layer)
        old = (getattr(block, "before", None), getattr(block, "behind", None))
        if not all(type(value) is int for value in old):
            raise ModelFileError(
                f"{self}: expected a block whose shortcut pads channels, found a {type(block).__name__}"
            )
        if not 0 <= self.before <= old[0] or not 0 <= self.behind <= old[1]:  # type: ignore[operator]  # checked above
            raise ModelFileError(
                f"{self}: expected at most {old[0]} zero channels before and {old[1]} after, which this shortcut has"
            )
        block.before, block.behind = self.before, self.behind


def widths(layer: Any) -> tuple[int, int]:
    """Return the number of input and output channels of a Conv2d, Linear or batch norm."""
    if isinstance(layer, NORMS):
        return layer.num_features, layer.num_features
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    return layer.in_channels, layer.out_channels


@torch.no_grad()
def narrow(layer: Any, inputs: Index, outputs: Index) -> None:
    """Keep only the channels ``inputs`` and ``outputs`` of a Conv2d, Linear or batch norm, in place."""
    if isinstance(layer, NORMS):
        for name in ("weight", "bias", "running_mean", "running_var"):
            _keep(layer, name, outputs)
        layer.num_features = len(_range(layer.num_features, outputs))
        return
    depthwise = isinstance(layer, nn.Conv2d) and layer.groups > 1
    columns = slice(None) if depthwise else inputs
    if isinstance(columns, slice) and isinstance(outputs, slice):
        weight = layer.weight[outputs, columns].clone()
    else:  # both axes in one indexing: large layers are copied once
        rows = outputs if isinstance(columns, slice) or isinstance(outputs, slice) else outputs[:, None]
        weight = layer.weight[rows, columns]
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
    selected = values[index].clone()
    setattr(layer, name, nn.Parameter(selected, values.requires_grad) if isinstance(values, nn.Parameter) else selected)


def _range(count: int, index: Index) -> Sequence[int] | torch.Tensor:
    return range(count)[index] if isinstance(index, slice) else index
