"""Hashed weights: V_ij = xi(i, j) w_h(i, j), where two hash functions give every index and sign.

A layer stores K values and a seed (HashedNets, Chen et al. 2015, arXiv:1504.04788). Convolutions hash the coefficients
of a cosine transform, with one bucket vector for each band of equal frequency (FreshNets, Chen et al. 2016,
arXiv:1506.04449). Indices are hashed in every forward pass; for layers of up to four million weights they are cached.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...core.errors import ModelFileError
from ...core.layers import set_layer
from ..decode.weights import from_frequencies, hashed_places, is_spectral, to_frequencies
from .base import CompressedConv2d, CompressedLinear, CompressedWeight, plain_layer


@torch.library.custom_op("hashpress::hashed_weight", mutates_args=())
def hashed_weight(values: Tensor, shape: Sequence[int], sizes: Sequence[int], seed: int) -> Tensor:
    """Return the hashed entries of a weight of ``shape``; with several ``sizes`` they are cosine coefficients."""
    table = torch.cat([values, -values])
    weight = values.new_empty(shape[0], math.prod(shape[1:]))
    for rows, places in hashed_places(tuple(shape), tuple(sizes), seed):
        torch.index_select(table, 0, _flat(places), out=weight[rows].view(-1))
    return weight.view(tuple(shape))


@hashed_weight.register_fake
def _(values: Tensor, shape: Sequence[int], *_: Any) -> Tensor:
    return values.new_empty(tuple(shape))


@torch.library.custom_op("hashpress::hashed_weight_backward", mutates_args=())
def hashed_weight_backward(gradient: Tensor, sizes: Sequence[int], seed: int) -> Tensor:
    """Return the signed sums of ``gradient`` (shape of the weight) over the buckets, (sum of sizes,)."""
    return _sums(gradient, sizes, seed).to(gradient.dtype)


@hashed_weight_backward.register_fake
def _(gradient: Tensor, sizes: Sequence[int], _seed: int) -> Tensor:
    return gradient.new_empty(sum(sizes))


def _keep_weight(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001  # torch passes it by name
    _, _, ctx.sizes, ctx.seed = inputs


def _weight_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
    return hashed_weight_backward(gradient.contiguous(), ctx.sizes, ctx.seed), None, None, None


hashed_weight.register_autograd(_weight_backward, setup_context=_keep_weight)


@torch.library.custom_op("hashpress::hashed", mutates_args=())
def hashed(features: Tensor, values: Tensor, bias: Tensor | None, outputs: int, seed: int) -> Tensor:
    """Return ``features`` (N, I) times the hashed weight (outputs, I), plus ``bias``; the weight is decoded in parts."""
    table = torch.cat([values, -values])
    result = features.new_empty(len(features), outputs)
    shape = (outputs, features.shape[1])
    for rows, places in hashed_places(shape, (len(values),), seed):
        weight = table.index_select(0, _flat(places)).view(places.shape)
        result[:, rows] = functional.linear(features, weight, None if bias is None else bias[rows])
    return result


@hashed.register_fake
def _(features: Tensor, _values: Tensor, _bias: Tensor | None, outputs: int, _seed: int) -> Tensor:
    return features.new_empty(len(features), outputs)


@torch.library.custom_op("hashpress::hashed_backward", mutates_args=())
def hashed_backward(
    features: Tensor, values: Tensor, gradient: Tensor, seed: int, first: bool
) -> tuple[Tensor, Tensor]:
    """Return the gradients of ``features`` (zeros for the ``first`` layer, which needs none) and of ``values``."""
    table = torch.cat([values, -values])
    sums = values.new_zeros(len(table), dtype=torch.float64)
    back = torch.zeros_like(features)
    shape = (gradient.shape[1], features.shape[1])
    for rows, places in hashed_places(shape, (len(values),), seed):
        flat, part = _flat(places), gradient[:, rows]
        if not first:
            back.addmm_(part, table.index_select(0, flat).view(places.shape))
        sums += torch.bincount(flat, (part.T @ features).view(-1).double(), minlength=len(table))
    return back, _folded(sums).to(values.dtype)


@hashed_backward.register_fake
def _(features: Tensor, values: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(features), torch.empty_like(values)


def _keep_layer(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001  # torch passes it by name
    features, values, bias, _, ctx.seed = inputs
    ctx.has_bias = bias is not None
    ctx.save_for_backward(features, values)


def _layer_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None, None]:
    features, values = ctx.saved_tensors
    back, change = hashed_backward(features, values, gradient.contiguous(), ctx.seed, not ctx.needs_input_grad[0])
    return back, change, gradient.sum(0) if ctx.has_bias else None, None, None


hashed.register_autograd(_layer_backward, setup_context=_keep_layer)


class HashedWeight(CompressedWeight):
    """A weight of ``shape`` hashed into buckets: one vector of values, or one for each frequency band of the kernel."""

    def __init__(self, shape: tuple[int, ...], sizes: tuple[int, ...], seed: int, *, half: bool = True) -> None:
        super().__init__()
        self.shape, self.sizes, self.seed, self.rounded = tuple(shape), tuple(sizes), seed, half
        self.values = nn.Parameter(torch.zeros(sum(sizes)))  # (K,)

    def forward(self) -> Tensor:
        """Return the dense weight."""
        weight = hashed_weight(self.values, self.shape, self.sizes, self.seed)
        return from_frequencies(weight, torch.cat) if is_spectral(self.shape, self.sizes) else weight

    @torch.no_grad()
    def fit(self, weight: Tensor) -> None:
        """Set the values to the least-squares fit of ``weight``: the signed mean of every bucket."""
        if is_spectral(self.shape, self.sizes):
            weight = to_frequencies(weight, torch.cat)
        self.values.copy_(_sums(weight, self.sizes, self.seed) / self.counts().clamp_min(1))

    @torch.no_grad()
    def draw(self, seed: int) -> None:
        """Initialise the values with He's normal distribution, using the fan-in of the dense weight."""
        generator = torch.Generator().manual_seed(seed)
        spread = math.sqrt(2 / math.prod(self.shape[1:]))
        self.values.copy_(torch.randn(self.values.shape, generator=generator) * spread)

    def counts(self) -> Tensor:
        """Return how many weights share each value, (K,)."""
        counts = torch.zeros(2 * sum(self.sizes), dtype=torch.int64)
        for _, places in hashed_places(self.shape, self.sizes, self.seed):
            counts += torch.bincount(_flat(places), minlength=len(counts))
        return counts[: len(counts) // 2] + counts[len(counts) // 2 :]

    @torch.no_grad()
    def round_to_file_precision(self) -> None:
        """Round the values to binary16 if ``half`` is set."""
        if self.rounded:
            self.values.copy_(self.values.half().float())

    def extra_repr(self) -> str:
        """Return the shape and the number of values."""
        return f"{self.shape}, {len(self.values)} values, seed {self.seed}"


class HashedLinear(CompressedLinear):
    """A linear layer that hashes its weight in every forward pass."""

    form: HashedWeight

    def forward(self, features: Tensor) -> Tensor:
        """Return (..., O)."""
        values = self.form.values
        flat = features.reshape(-1, self.in_features).to(values.dtype)
        result = hashed(flat, values, self.bias, self.out_features, self.form.seed)
        return result.view(*features.shape[:-1], self.out_features)


def _flat(places: Any) -> Tensor:
    return torch.from_numpy(places).view(-1)


def _sums(weight: Tensor, sizes: Sequence[int], seed: int) -> Tensor:
    """Return the signed sums of a weight over the buckets, (sum of sizes,) float64."""
    sums = weight.new_zeros(2 * sum(sizes), dtype=torch.float64)
    flat = weight.reshape(weight.shape[0], -1)
    for rows, places in hashed_places(tuple(weight.shape), tuple(sizes), seed):
        sums += torch.bincount(_flat(places), flat[rows].reshape(-1).double(), minlength=len(sums))
    return _folded(sums)


def _folded(sums: Tensor) -> Tensor:
    return sums[: len(sums) // 2] - sums[len(sums) // 2 :]


@dataclass(frozen=True)
class Hashed:
    """The edit that hashes the weight of ``layer`` (of ``shape``) into buckets: one of ``sizes`` for each frequency band."""

    kind: ClassVar[str] = "hashed"
    layer: str
    shape: tuple[int, ...]
    sizes: tuple[int, ...]
    seed: int
    half: bool = True  # values and bias are stored in binary16

    def apply(self, net: nn.Module) -> None:
        """Replace the plain layer by one that hashes its weight."""
        layer, shape = plain_layer(net, self.layer, self)
        bands = {1} if len(shape) == 2 else {1, shape[2] + shape[3] - 1}
        if self.shape != shape or len(self.sizes) not in bands or not all(0 < size < 1 << 31 for size in self.sizes):
            raise ModelFileError(
                f"{self}: shape or sizes do not match the weight of the layer, which has shape {shape}"
            )
        if not 0 <= self.seed < 1 << 32:
            raise ModelFileError(f"{self}: expected a seed of 32 bits, found {self.seed}")
        form = HashedWeight(shape, self.sizes, self.seed, half=self.half)
        new = HashedLinear(form, layer) if isinstance(layer, nn.Linear) else CompressedConv2d(form, layer)
        set_layer(net, self.layer, new.train(layer.training))
