"""Adaptive Fastfood: y = S H G P H B x replaces a linear layer (Yang et al. 2015, arXiv:1412.7149).

S, G and B are learned diagonals, P is a permutation drawn from a seed, H the orthonormal Walsh-Hadamard transform of
size d, the number of inputs padded to a power of two. For more than d outputs, blocks are stacked on the same input;
surplus outputs are dropped. Stored are S (outputs,), G (blocks, d) and B (blocks, inputs), without the entries for
padding and dropped outputs: O(outputs + d) values and O(d log d) additions instead of inputs x outputs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ...core.errors import ModelFileError
from ...core.layers import set_layer
from ..decode.hadamard import padded_size, walsh
from ..decode.hashing import permutation, random_signs
from ..decode.weights import CHUNK
from .base import CompressedLinear, CompressedWeight, plain_layer


@torch.library.custom_op("hashpress::fastfood", mutates_args=())
def fastfood(features: Tensor, signs: Tensor, gauss: Tensor, norms: Tensor, bias: Tensor | None, seed: int) -> Tensor:
    """Return S H G P H B x of ``features`` (N, inputs), plus ``bias``; (N, outputs)."""
    first = _first_half(features, signs, gauss.shape[1], seed)
    result = _second_half(first * gauss, len(norms)) * norms
    return result if bias is None else result + bias


@fastfood.register_fake
def _(features: Tensor, _signs: Tensor, _gauss: Tensor, norms: Tensor, *_: Any) -> Tensor:
    return features.new_empty(len(features), len(norms))


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001  # torch passes it by name
    features, signs, gauss, norms, bias, ctx.seed = inputs
    ctx.has_bias = bias is not None
    ctx.save_for_backward(features, signs, gauss, norms)


@torch.library.custom_op("hashpress::fastfood_backward", mutates_args=())
def fastfood_backward(
    gradient: Tensor, features: Tensor, signs: Tensor, gauss: Tensor, norms: Tensor, seed: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of features, signs, gauss and norms for ``gradient`` (N, outputs)."""
    blocks, size = gauss.shape
    first = _first_half(features, signs, size, seed)
    d_norms = (gradient * _second_half(first * gauss, len(norms))).sum(0)
    back = pad(gradient * norms, (0, blocks * size - len(norms))).view(-1, blocks, size)
    back = walsh(back, torch.cat)
    d_gauss = (back * first).sum(0)
    back = walsh(_gather(back * gauss, torch.argsort(_orders(blocks, size, seed), 1)), torch.cat)
    back = back[:, :, : features.shape[1]]
    d_signs = (back * features[:, None]).sum(0)
    return (back * signs).sum(1), d_signs, d_gauss, d_norms


@fastfood_backward.register_fake
def _(_gradient: Tensor, *factors: Any) -> tuple[Tensor, ...]:
    return tuple(torch.empty_like(values) for values in factors[:4])


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    changes = fastfood_backward(gradient, *ctx.saved_tensors, ctx.seed)
    return *changes, gradient.sum(0) if ctx.has_bias else None, None


fastfood.register_autograd(_backward, setup_context=_keep)


def _first_half(features: Tensor, signs: Tensor, size: int, seed: int) -> Tensor:
    """Return P H B x, (N, blocks, d)."""
    spread = pad(features[:, None] * signs, (0, size - features.shape[1]))
    return _gather(walsh(spread, torch.cat), _orders(len(signs), size, seed))


def _second_half(mixed: Tensor, outputs: int) -> Tensor:
    """Return H x of all blocks side by side, (N, outputs)."""
    return walsh(mixed, torch.cat).flatten(1)[:, :outputs]


def _gather(values: Tensor, orders: Tensor) -> Tensor:
    """Return ``values`` (N, blocks, d) permuted within each block by ``orders`` (blocks, d)."""
    return values.gather(2, orders.to(values.device).expand(len(values), -1, -1))


def _orders(blocks: int, size: int, seed: int) -> Tensor:
    return torch.stack([torch.from_numpy(permutation(size, block, seed).copy()) for block in range(blocks)])


class FastfoodWeight(CompressedWeight):
    """A weight (outputs, inputs) stored as the three diagonals B, G and S."""

    def __init__(self, outputs: int, inputs: int, seed: int, *, half: bool = True) -> None:
        super().__init__()
        size = padded_size(inputs)
        blocks = -(-outputs // size)
        self.seed, self.rounded = seed, half
        self.signs = nn.Parameter(torch.ones(blocks, inputs))  # B
        self.gauss = nn.Parameter(torch.ones(blocks, size))  # G
        self.norms = nn.Parameter(torch.ones(outputs))  # S

    @property
    def size(self) -> int:
        """The size d of the transform."""
        return self.gauss.shape[1]

    @property
    def factors(self) -> Tensor:
        """S (outputs,), the scale of each output."""
        return self.norms

    def forward(self) -> Tensor:
        """Return the dense weight (outputs, inputs), computed by transforming the unit vectors."""
        inputs = self.signs.shape[1]
        step = max(1, CHUNK // self.gauss.numel())
        unit = torch.eye(inputs, dtype=self.norms.dtype, device=self.norms.device)
        parts = [fastfood(rows, self.signs, self.gauss, self.norms, None, self.seed) for rows in unit.split(step)]
        return torch.cat(parts).T.contiguous()

    @torch.no_grad()
    def draw(self, seed: int, gain: float = math.sqrt(2)) -> None:
        """Initialise the diagonals as random Fastfood does, at the scale of He initialisation.

        Rows of H G P H B have the norm ||G|| / sqrt(d); S is the norm of a Gaussian row of d entries divided by that.
        """
        generator = torch.Generator().manual_seed(seed)
        blocks, inputs = self.signs.shape
        outputs = len(self.norms)
        bits = [torch.from_numpy(random_signs(inputs, block, self.seed)) for block in range(blocks)]
        self.signs.copy_(torch.stack(bits))
        self.gauss.copy_(torch.randn(blocks, self.size, generator=generator))
        if self.size <= 4096:
            chi = torch.randn(outputs, self.size, generator=generator).norm(dim=1)
        else:  # the norm of many Gaussians is Gaussian, with spread 1 / sqrt(2)
            chi = math.sqrt(self.size - 0.5) + torch.randn(outputs, generator=generator) / math.sqrt(2)
        length = self.gauss.norm(dim=1).repeat_interleave(self.size)[:outputs]
        self.norms.copy_(chi * gain / math.sqrt(inputs) * math.sqrt(self.size) / length)

    @torch.no_grad()
    def round_to_file_precision(self) -> None:
        """Round the diagonals to binary16 if ``half`` is set."""
        if self.rounded:
            for values in self.parameters():
                values.copy_(values.half().float())

    def extra_repr(self) -> str:
        """Return the sizes."""
        blocks, inputs = self.signs.shape
        return f"({len(self.norms)}, {inputs}), {blocks} blocks of {self.size}, seed {self.seed}"


class FastfoodLinear(CompressedLinear):
    """A linear layer computed by fast Walsh-Hadamard transforms."""

    form: FastfoodWeight

    def forward(self, features: Tensor) -> Tensor:
        """Return (..., O)."""
        form = self.form
        flat = features.reshape(-1, self.in_features).to(form.norms.dtype)
        result = fastfood(flat, form.signs, form.gauss, form.norms, self.bias, form.seed)
        return result.view(*features.shape[:-1], self.out_features)


@dataclass(frozen=True)
class Fastfooded:
    """The edit that replaces the linear ``layer`` by three diagonals and two Walsh-Hadamard transforms."""

    kind: ClassVar[str] = "fastfood"
    layer: str
    seed: int
    half: bool = True  # diagonals and bias are stored in binary16

    def apply(self, net: nn.Module) -> None:
        """Replace the plain layer by a FastfoodLinear."""
        layer, _ = plain_layer(net, self.layer, self)
        if not isinstance(layer, nn.Linear):
            raise ModelFileError(f"{self}: expected a Linear, found a {type(layer).__name__}")
        if not 0 <= self.seed < 1 << 32:
            raise ModelFileError(f"{self}: expected a seed of 32 bits, found {self.seed}")
        form = FastfoodWeight(layer.out_features, layer.in_features, self.seed, half=self.half)
        set_layer(net, self.layer, FastfoodLinear(form, layer).train(layer.training))
