"""Forms: how a layer keeps its weight. A form is a module whose call returns the dense weight."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from ...core.errors import InputError

HALF_END = 65520.0  # from here on binary16 rounds to infinity


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


def index_dtype(entries: int) -> torch.dtype:
    """Return the smallest signed or unsigned type that numbers ``entries`` values."""
    return torch.uint8 if entries <= 1 << 8 else torch.int16 if entries <= 1 << 15 else torch.int32


def largest(values: torch.Tensor) -> float:
    """Return the largest size among ``values``, NaN when one is; nothing as large as they are stands beside them."""
    if not values.numel():
        return 0.0
    low, high = torch.aminmax(values.detach())
    return max(-float(low), float(high))


def check_half(path: str, values: Iterable[torch.Tensor]) -> None:
    """Raise InputError when one of a layer's ``values`` becomes infinite in binary16."""
    for value in values:
        if not largest(value) < HALF_END:
            raise InputError(
                f"layer {path!r}: half precision ends at 65504 and {largest(value):g} is to be kept in it; "
                'set precision = "float32" (of share: codebook = "float32"), or skip the layer'
            )


class Form(nn.Module):
    """What every form has: a call that returns the dense weight, and a state it settles in."""

    rounded = False  # whether values, and the bias beside them, are kept in binary16

    @property
    def factors(self) -> torch.Tensor | None:
        """What multiplies the outputs (O,), where the form has such values."""
        return None

    def settle(self) -> None:
        """Round the values to what the file keeps, in place; called at the end of a training."""


class Shared(Form):
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
