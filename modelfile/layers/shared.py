"""Forms: how a layer keeps its weight. A form is a module whose call returns the dense weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from ...core.errors import ModelFileError
from ...core.layers import get_layer
from .base import CompressedWeight, compress_layer, index_dtype


class Lookup(torch.autograd.Function):
    """``codebook[indices]`` whose gradient is the sum over each cluster (Han et al. 2016, section 3.3).

    Entry 0 is the zero of pruned weights and gets no gradient.
    """

    @staticmethod
    def forward(ctx: Any, codebook: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:  # noqa: D102
        ctx.save_for_backward(indices)
        ctx.entries = len(codebook)
        return codebook[indices.long()]

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:  # noqa: D102
        (indices,) = ctx.saved_tensors
        (gradient,) = gradients
        sums = torch.bincount(indices.flatten().long(), gradient.flatten().double(), minlength=ctx.entries)
        sums[0] = 0
        return sums.to(gradient.dtype), None


class SharedWeight(CompressedWeight):
    """A weight whose values come from a codebook; entry 0 is exactly zero; optionally a factor per output channel."""

    indices: torch.Tensor

    def __init__(self, shape: tuple[int, ...], entries: int, *, scaled: bool = False, half: bool = True) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.codebook = nn.Parameter(torch.zeros(entries))  # (K,)
        self.register_buffer("indices", torch.zeros(shape, dtype=index_dtype(entries)))
        if scaled:
            self.scale = nn.Parameter(torch.ones(shape[0]))  # (O,)
        self.scaled, self.rounded = scaled, half

    @property
    def factors(self) -> torch.Tensor | None:
        """The factors (O,), when there are some."""
        return self.scale if self.scaled else None

    def forward(self) -> torch.Tensor:
        """Return the dense weight."""
        weight = Lookup.apply(self.codebook, self.indices)
        if self.scaled:
            weight = weight * self.scale.view(-1, *[1] * (weight.ndim - 1))
        return weight

    @torch.no_grad()
    def settle(self) -> None:
        """Round the values to binary16 when that is asked for, and hold entry 0 at zero."""
        if self.rounded:
            for values in self.parameters():
                values.copy_(values.half().float())
        self.codebook[0] = 0.0

    def extra_repr(self) -> str:
        """Return the size of the codebook."""
        return f"{self.shape}, {len(self.codebook)} values" + (", scaled" if self.scaled else "")


@dataclass(frozen=True)
class Shared:
    """The weight of ``layer`` takes its values from a codebook of ``entries`` numbers, the first of them zero."""

    kind: ClassVar[str] = "shared"
    layer: str
    entries: int
    scaled: bool = False  # a factor per output channel
    half: bool = True  # codebook, factors and bias are kept in binary16

    def apply(self, net: nn.Module) -> None:
        """Put a decoding layer in the plain one's place."""
        if not 1 <= self.entries <= MAX_ENTRIES:
            raise ModelFileError(f"{self}: a codebook has 1 to {MAX_ENTRIES} entries")
        layer = get_layer(net, self.layer)
        if not isinstance(layer, nn.Conv2d | nn.Linear):
            raise ModelFileError(f"{self}: this layer is a {type(layer).__name__}, a Conv2d or Linear was expected")
        shape = tuple(layer.weight.shape)
        compress_layer(net, self.layer, SharedWeight(shape, self.entries, scaled=self.scaled, half=self.half))


MAX_ENTRIES = 1 << 20
