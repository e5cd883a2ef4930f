"""Weight sharing: every weight is an index into a codebook (Han et al. 2016, arXiv:1510.00149, section 3)."""

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
    """A weight ``codebook[indices]``, optionally times a scale per output channel; entry 0 of the codebook is zero."""

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
        """The scale of each output channel (O,), None if the weight is not scaled."""
        return self.scale if self.scaled else None

    def forward(self) -> torch.Tensor:
        """Return the dense weight."""
        weight = Lookup.apply(self.codebook, self.indices)
        if self.scaled:
            weight = weight * self.scale.view(-1, *[1] * (weight.ndim - 1))
        return weight

    @torch.no_grad()
    def round_to_file_precision(self) -> None:
        """Round codebook and scales to binary16 if ``half`` is set, and reset entry 0 to zero."""
        if self.rounded:
            for values in self.parameters():
                values.copy_(values.half().float())
        self.codebook[0] = 0.0

    def extra_repr(self) -> str:
        """Return the size of the codebook."""
        return f"{self.shape}, {len(self.codebook)} values" + (", scaled" if self.scaled else "")


@dataclass(frozen=True)
class Shared:
    """The edit that stores the weight of ``layer`` as indices into a codebook of ``entries`` numbers, the first of them zero."""

    kind: ClassVar[str] = "shared"
    layer: str
    entries: int
    scaled: bool = False  # one scale per output channel
    half: bool = True  # codebook, scales and bias are stored in binary16

    def apply(self, net: nn.Module) -> None:
        """Replace the plain layer by one that looks its weight up."""
        if not 1 <= self.entries <= MAX_ENTRIES:
            raise ModelFileError(f"{self}: expected a codebook of 1 to {MAX_ENTRIES} entries, found {self.entries}")
        layer = get_layer(net, self.layer)
        if not isinstance(layer, nn.Conv2d | nn.Linear):
            raise ModelFileError(f"{self}: expected a Conv2d or Linear, found a {type(layer).__name__}")
        shape = tuple(layer.weight.shape)
        compress_layer(net, self.layer, SharedWeight(shape, self.entries, scaled=self.scaled, half=self.half))


MAX_ENTRIES = 1 << 20
