"""Product-quantized layers computed with lookup tables (Q-CNN, Wu et al. 2016, arXiv:1512.06473).

The input channels are split into M subspaces of C channels. A subspace has K codewords, shared by all outputs and all
kernel positions; the weight is an index of a codeword for each of them. The products of an input's sub-vectors with all
codewords are computed once (K x channels multiplications per position); every output is then a sum of table entries.
Channels may be permuted so that similar ones share a subspace (PQF, Martinez et al. 2021, arXiv:2010.15703); the
permutation is stored with the layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...core.errors import ModelFileError
from ...core.layers import set_layer
from .base import CompressedConv2d, CompressedLinear, CompressedWeight, index_dtype, plain_layer

TABLE = 1 << 24  # entries of the lookup table computed at once
PART = 1 << 20  # weights decoded at once


@torch.library.custom_op("hashpress::pq", mutates_args=())
def pq(
    images: Tensor,
    codebook: Tensor,
    indices: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """Return the convolution of ``images`` (N, I, H, W) with codewords (M, K, C) at ``indices`` (M, O, kH, kW)."""
    padded = functional.pad(images, (padding[1], padding[1], padding[0], padding[0]))
    result = images.new_empty(*_output_shape(images, indices, stride, padding, dilation))
    per_image = codebook.shape[0] * codebook.shape[1] * padded.shape[2] * padded.shape[3]
    inputs, outputs = images.shape[1] // groups, indices.shape[1] // groups
    for rows in torch.arange(len(images)).split(max(1, TABLE // max(per_image, 1))):
        part = slice(int(rows[0]), int(rows[-1]) + 1)
        for group in range(groups):
            own = slice(group * outputs, (group + 1) * outputs)
            table = products(padded[part, group * inputs : (group + 1) * inputs], codebook)
            result[part, own] = _looked_up(table, indices[:, own], result.shape[2:], stride, dilation)
    return result if bias is None else result.add_(bias.view(-1, 1, 1))


def products(images: Tensor, codebook: Tensor) -> Tensor:
    """Return the products of all sub-vectors of ``images`` (N, I, H, W) with their codewords, (M K, N, H, W)."""
    subspaces, entries, width = codebook.shape
    images = functional.pad(images, (0, 0, 0, 0, 0, subspaces * width - images.shape[1]))
    parts = images.unflatten(1, (subspaces, width)).permute(1, 2, 0, 3, 4)  # (M, C, N, H, W)
    table = torch.bmm(codebook, parts.flatten(2))
    return table.view(subspaces * entries, *parts.shape[2:])


def _looked_up(
    table: Tensor, indices: Tensor, size: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> Tensor:
    """Return the sums over subspaces and kernel positions of ``table`` (M K, N, H, W) at ``indices`` (M, O, kH, kW)."""
    subspaces, outputs, rows, columns = indices.shape
    starts = torch.arange(subspaces, dtype=torch.int32, device=table.device) * (len(table) // subspaces)
    total = table.new_zeros(outputs, table.shape[1] * size[0] * size[1])
    for row in range(rows):
        for column in range(columns):
            top, left = row * dilation[0], column * dilation[1]
            window = table[
                :, :, top : top + (size[0] - 1) * stride[0] + 1 : stride[0],
                left : left + (size[1] - 1) * stride[1] + 1 : stride[1],
            ]  # fmt: skip
            bags = indices[:, :, row, column].T.to(torch.int32) + starts  # (O, M)
            total += functional.embedding_bag(bags, window.reshape(len(table), -1), mode="sum")
    return total.view(outputs, table.shape[1], *size).transpose(0, 1)


@pq.register_fake
def _(
    images: Tensor, _codebook: Tensor, indices: Tensor, _bias: Tensor | None,
    stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], _groups: int,
) -> Tensor:  # fmt: skip
    return images.new_empty(_output_shape(images, indices, stride, padding, dilation))


def _output_shape(
    images: Tensor, indices: Tensor, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> tuple[int, ...]:
    sides = [
        (images.shape[2 + axis] + 2 * padding[axis] - dilation[axis] * (indices.shape[2 + axis] - 1) - 1)
        // stride[axis] + 1
        for axis in range(2)
    ]  # fmt: skip
    return images.shape[0], indices.shape[1], *sides


@torch.library.custom_op("hashpress::pq_backward", mutates_args=())
def pq_backward(
    gradient: Tensor, images: Tensor, codebook: Tensor, indices: Tensor,
    stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], groups: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return the gradients of ``images`` and ``codebook``."""
    inputs = images.shape[1] // groups
    weight = dense_weight(codebook, indices, inputs)
    settings = (list(stride), list(padding), list(dilation), False, [0, 0], groups, [True, True, False])
    back, change, _ = torch.ops.aten.convolution_backward(gradient, images, weight, None, *settings)
    subspaces, entries, width = codebook.shape
    change = functional.pad(change, (0, 0, 0, 0, 0, subspaces * width - inputs))
    change = change.unflatten(1, (subspaces, width)).permute(1, 0, 3, 4, 2).reshape(-1, width)
    sums = torch.zeros_like(codebook).view(-1, width)
    return back, sums.index_add_(0, _rows(indices, entries).view(-1), change).view_as(codebook)


@pq_backward.register_fake
def _(_gradient: Tensor, images: Tensor, codebook: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(images), torch.empty_like(codebook)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001  # torch passes it by name
    images, codebook, indices, bias, *ctx.settings = inputs
    ctx.has_bias = bias is not None
    ctx.save_for_backward(images, codebook, indices)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    back, change = pq_backward(gradient, *ctx.saved_tensors, *ctx.settings)
    return back, change, None, gradient.sum((0, 2, 3)) if ctx.has_bias else None, None, None, None, None


pq.register_autograd(_backward, setup_context=_keep)


def dense_weight(codebook: Tensor, indices: Tensor, inputs: int, order: Tensor | None = None) -> Tensor:
    """Return the weight (O, inputs, ...); with ``order`` (inputs,), the channel permutation of the codebook is undone.

    A large weight is decoded in parts unless gradients are needed.
    """
    subspaces, _, width = codebook.shape
    step = max(1, PART // max(1, indices[0].numel() * width))
    if step >= subspaces or (torch.is_grad_enabled() and codebook.requires_grad):
        whole = _laid_out(codebook, indices)[:, :inputs]
        return whole.contiguous() if order is None else whole.index_select(1, torch.argsort(order))
    weight = codebook.new_empty(indices.shape[1], inputs, *indices.shape[2:])
    for start in range(0, subspaces, step):
        part, columns = slice(start, start + step), slice(start * width, min((start + step) * width, inputs))
        values = _laid_out(codebook[part], indices[part])[:, : columns.stop - columns.start]
        weight[:, columns if order is None else order[columns].long()] = values
    return weight


def _laid_out(codebook: Tensor, indices: Tensor) -> Tensor:
    """Return the weight (O, M C, ...) of some subspaces."""
    subspaces, entries, width = codebook.shape
    parts = functional.embedding(_rows(indices, entries), codebook.reshape(-1, width))  # (M, O, ..., C)
    kernel = range(2, indices.ndim)
    return parts.permute(1, 0, indices.ndim, *kernel).reshape(indices.shape[1], subspaces * width, *indices.shape[2:])


def _rows(indices: Tensor, entries: int) -> Tensor:
    """Return ``indices`` as row numbers of the codebook flattened to (M K, C)."""
    starts = torch.arange(len(indices), device=indices.device) * entries
    return indices.long() + starts.view(-1, *[1] * (indices.ndim - 1))


class ProductQuantizedWeight(CompressedWeight):
    """A weight of ``shape`` (O, I, ...) made of codewords of ``width`` channels, ``entries`` for each subspace."""

    indices: Tensor
    order: Tensor

    def __init__(
        self, shape: tuple[int, ...], width: int, entries: int, *, permuted: bool = False, half: bool = True
    ) -> None:
        super().__init__()
        self.shape, self.rounded, self.permuted = tuple(shape), half, permuted
        subspaces = -(-shape[1] // width)
        self.codebook = nn.Parameter(torch.zeros(subspaces, entries, width))  # (M, K, C)
        self.register_buffer("indices", torch.zeros(subspaces, shape[0], *shape[2:], dtype=index_dtype(entries)))
        if permuted:
            self.register_buffer("order", torch.arange(shape[1], dtype=torch.int32))

    def forward(self) -> Tensor:
        """Return the dense weight."""
        return dense_weight(self.codebook, self.indices, self.shape[1], self.order if self.permuted else None)

    def permuted_inputs(self, inputs: Tensor) -> Tensor:
        """Return ``inputs`` (N, channels, ...) with the channels of every group permuted as in the codebook."""
        if not self.permuted:
            return inputs
        starts = torch.arange(0, inputs.shape[1], self.shape[1], device=inputs.device)
        return inputs.index_select(1, (starts[:, None] + self.order).view(-1))

    @torch.no_grad()
    def round_to_file_precision(self) -> None:
        """Round the codewords to binary16 if ``half`` is set."""
        if self.rounded:
            self.codebook.copy_(self.codebook.half().float())

    def extra_repr(self) -> str:
        """Return the sizes."""
        subspaces, entries, width = self.codebook.shape
        text = f"{self.shape}, {subspaces} subspaces, {entries} codewords of {width}"
        return text + (", permuted" if self.permuted else "")


class ProductConv2d(CompressedConv2d):
    """A convolution by table lookup; in training mode it decodes the weight, which is faster for large batches."""

    form: ProductQuantizedWeight

    def forward(self, images: Tensor) -> Tensor:
        """Return (N, O, H', W')."""
        form = self.form
        if self.training:
            return super().forward(images)
        images = form.permuted_inputs(images.to(form.codebook.dtype))
        settings: Any = (self.stride, self.padding, self.dilation, self.groups)
        return pq(images, form.codebook, form.indices, self.bias, *settings)


class ProductLinear(CompressedLinear):
    """A linear layer by table lookup; in training mode it decodes the weight, which is faster for large batches."""

    form: ProductQuantizedWeight

    def forward(self, features: Tensor) -> Tensor:
        """Return (..., O)."""
        form = self.form
        if self.training:
            return super().forward(features)
        flat = form.permuted_inputs(features.reshape(-1, self.in_features).to(form.codebook.dtype))
        indices = form.indices[:, :, None, None]
        result = pq(flat[:, :, None, None], form.codebook, indices, self.bias, [1, 1], [0, 0], [1, 1], 1)
        return result.view(*features.shape[:-1], self.out_features)


@dataclass(frozen=True)
class ProductQuantized:
    """The edit that stores the weight of ``layer`` as codewords of ``width`` of its ``inputs``, ``entries`` per subspace."""

    kind: ClassVar[str] = "pq"
    layer: str
    inputs: int
    width: int
    entries: int
    permuted: bool = False  # the input channels are permuted
    half: bool = True  # codewords and bias are stored in binary16

    def apply(self, net: nn.Module) -> None:
        """Replace the plain layer by a product-quantized one."""
        layer, shape = plain_layer(net, self.layer, self)
        if self.inputs != shape[1] or not 1 <= self.width <= shape[1] or not 1 <= self.entries <= MAX_ENTRIES:
            raise ModelFileError(
                f"{self}: inputs, width or entries do not match the weight of the layer, which has shape {shape}"
            )
        form = ProductQuantizedWeight(shape, self.width, self.entries, permuted=self.permuted, half=self.half)
        new = ProductLinear(form, layer) if isinstance(layer, nn.Linear) else ProductConv2d(form, layer)
        set_layer(net, self.layer, new.train(layer.training))


MAX_ENTRIES = 1 << 15
