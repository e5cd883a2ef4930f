"""Layers in integer arithmetic, defined bit for bit so that every kernel can equal them.

    q   = clamp(rint(x * (1 / scale)) + zero, 0, 2^a - 1)          float32 product, ties to even
    acc = sum over (q - zero) * w + bias                           int32, never beyond; padding counts as zero
    y   = float(acc) * multiplier[o]                               one float32 product
    y   = rint(y) * step                                           where ``step`` > 0

``multiplier`` = scale * s_w[o] / step. ``step`` is a power of two of which the largest output has about 2^14: sums of
such outputs (residual joins, mean pooling over a few hundred pixels) are exact in float32 in whatever order. The hash
head has step 0 and keeps what the product gives. A file whose accumulators could leave int32 is refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ...core.errors import ModelFileError
from ...core.layers import get_layer, set_layer
from .base import CompressedConv2d, CompressedLinear, CompressedWeight

EXACT = 1 << 24  # whole numbers up to here are exact in float32
LARGEST = (1 << 31) - (1 << 8)  # of an accumulator, so that a bias rounded to float32 still leaves it in int32
DOUBLES = 8  # images convolved at once in double, where torch unfolds them all
ROWS = 512  # of a dense layer that are in a float type at once


def quantise(x: Tensor, scale: float, zero: float, high: float) -> Tensor:
    """Return q - zero as whole float32 numbers."""
    inverse = float(np.float32(1) / np.float32(scale))
    return torch.clamp(torch.round(x * inverse) + zero, 0, high) - zero


def rescale(acc: Tensor, multiplier: Tensor, step: float) -> Tensor:
    """Return the outputs of accumulators (N, O[, H, W])."""
    y = acc * multiplier.view(-1, *[1] * (acc.ndim - 2))
    return torch.round(y) * step if step else y


def reach(integers: Tensor, high: float) -> Tensor:
    """Return how far from zero each row's products may add up (O,), float64."""
    return torch.cat([rows.double().abs().sum(1) for rows in integers.flatten(1).split(ROWS)]) * high


def wide(integers: Tensor, bias: Tensor, high: float) -> torch.dtype:
    """Return a float type in which every partial sum is exact: double unless a bound says that single is enough."""
    most = float((reach(integers, high) + bias.abs()).max())
    return torch.float32 if most < EXACT else torch.float64


@torch.no_grad()
def put_bias(layer: Any, whole: Tensor) -> None:
    """Put whole numbers (O,) into a layer's bias, each as far from zero as the accumulator has room for."""
    room = (LARGEST - reach(layer.form.integers, layer.how.high)).clamp_min(0)
    layer.bias.copy_(torch.clamp(whole.double(), -room, room))


def real_weight(whole: Tensor, multiplier: Tensor, how: Quantized) -> Tensor:
    """Return the real numbers that a layer's whole ones stand for; ``multiplier`` keeps the scale of each row."""
    steps = multiplier * ((how.step or 1.0) / how.scale)
    return whole * steps.view(-1, *[1] * (whole.ndim - 1))


@torch.library.custom_op("hashpress::int8_conv2d", mutates_args=())
def int8_conv2d(
    x: Tensor, integers: Tensor, bias: Tensor, multiplier: Tensor, numbers: Sequence[float], window: Sequence[int]
) -> Tensor:
    """Return the convolution of x (N, C, H, W) with ``integers`` (O, C / groups, kH, kW) int8.

    ``numbers`` are scale, zero, largest input, step; ``window`` is stride, padding, dilation (two each) and groups.
    """
    scale, zero, high, step = numbers
    kind = wide(integers, bias, high)
    weight = integers.to(kind), bias.to(kind)
    parts = []
    for images in x.split(max(1, len(x)) if kind == torch.float32 else DOUBLES):
        q = quantise(images, scale, zero, high).to(kind)
        parts.append(functional.conv2d(q, *weight, window[0:2], window[2:4], window[4:6], window[6]).float())
    return rescale(torch.cat(parts), multiplier, step)


@int8_conv2d.register_fake
def _(x: Tensor, integers: Tensor, _bias: Tensor, _multiplier: Tensor, *rest: Any) -> Tensor:
    window = rest[1]
    return functional.conv2d(x, integers.to(x.dtype), None, window[0:2], window[2:4], window[4:6], window[6])


@torch.library.custom_op("hashpress::int8_linear", mutates_args=())
def int8_linear(x: Tensor, integers: Tensor, bias: Tensor, multiplier: Tensor, numbers: Sequence[float]) -> Tensor:
    """Return the product of x (N, I) with ``integers`` (O, I) int8."""
    scale, zero, high, step = numbers
    kind = wide(integers, bias, high)
    q = quantise(x, scale, zero, high).to(kind)
    parts = zip(integers.split(ROWS), bias.split(ROWS), strict=True)
    acc = torch.cat([functional.linear(q, rows.to(kind), add.to(kind)).float() for rows, add in parts], 1)
    return rescale(acc, multiplier, step)


@int8_linear.register_fake
def _(x: Tensor, integers: Tensor, *_: Any) -> Tensor:
    return x.new_empty(len(x), len(integers))


class IntegerWeight(CompressedWeight):
    """A weight of whole numbers from -128 to 127; the call returns them as float32."""

    integers: Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("integers", torch.zeros(shape, dtype=torch.int8))

    def forward(self) -> Tensor:
        """Return the whole numbers."""
        return self.integers.float()


@dataclass(frozen=True)
class Quantized:
    """``layer`` computes in integers: see the formulas in this file; ``bits`` of weights, ``activations`` of inputs."""

    kind: ClassVar[str] = "int8"
    layer: str
    scale: float
    zero: int
    step: float
    bits: int = 8
    activations: int = 8

    @property
    def high(self) -> int:
        """The largest quantised input."""
        return (1 << self.activations) - 1

    @property
    def numbers(self) -> list[float]:
        """Scale, zero, largest input and step, as the kernels take them."""
        return [self.scale, float(self.zero), float(self.high), self.step]

    def apply(self, net: nn.Module) -> None:
        """Put an integer layer in the plain one's place."""
        if not 2 <= self.bits <= 8 or not 2 <= self.activations <= 8:
            raise ModelFileError(f"{self}: bits must be 2 to 8")
        if not 0 < self.scale < math.inf or not 0 <= self.zero <= self.high or not 0 <= self.step < math.inf:
            raise ModelFileError(f"{self}: scale, zero or step is out of range")
        layer = get_layer(net, self.layer)
        if isinstance(layer, nn.Conv2d) and layer.padding_mode == "zeros" and not isinstance(layer.padding, str):
            set_layer(net, self.layer, Int8Conv2d(layer, self))
        elif isinstance(layer, nn.Linear):
            set_layer(net, self.layer, Int8Linear(layer, self))
        else:
            raise ModelFileError(
                f"{self}: this layer is a {type(layer).__name__}, a plain Conv2d or Linear was expected"
            )


class Int8Conv2d(CompressedConv2d):
    """A convolution in integers; for inference alone, no gradient passes."""

    how: Quantized
    multiplier: Tensor

    def __init__(self, layer: nn.Conv2d, how: Quantized) -> None:
        super().__init__(IntegerWeight(tuple(layer.weight.shape)), layer)
        _own(self, layer.out_channels, how)

    @property
    def weight(self) -> Tensor:
        """The weight as real numbers, for who reads it without calling the layer."""
        return real_weight(self.form(), self.multiplier, self.how)

    def forward(self, images: Tensor) -> Tensor:
        """Return (N, O, H', W')."""
        window = [*self.stride, *self.padding, *self.dilation, self.groups]
        return int8_conv2d(images, self.form.integers, self.bias, self.multiplier, self.how.numbers, window)

    def dense(self) -> nn.Conv2d:
        """Return a convolution of whole float32 numbers between roundings, with the same outputs where sums are exact."""
        shape: tuple[Any, Any, Any, Any] = (self.kernel_size, self.stride, self.padding, self.dilation)
        layer = FloatConv2d(self.in_channels, self.out_channels, *shape, self.groups, device="meta")
        return _float(layer, self)


class Int8Linear(CompressedLinear):
    """A dense layer in integers; for inference alone, no gradient passes."""

    how: Quantized
    multiplier: Tensor

    def __init__(self, layer: nn.Linear, how: Quantized) -> None:
        super().__init__(IntegerWeight(tuple(layer.weight.shape)), layer)
        _own(self, layer.out_features, how)

    @property
    def weight(self) -> Tensor:
        """The weight as real numbers, for who reads it without calling the layer."""
        return real_weight(self.form(), self.multiplier, self.how)

    def forward(self, features: Tensor) -> Tensor:
        """Return (N, O)."""
        return int8_linear(features, self.form.integers, self.bias, self.multiplier, self.how.numbers)

    def dense(self) -> nn.Linear:
        """Return a dense layer of whole float32 numbers between roundings, with the same outputs where sums are exact."""
        return _float(FloatLinear(self.in_features, self.out_features, device="meta"), self)


class Wholes(nn.Module):
    """A plain layer whose parameter ``weight`` holds whole numbers, while its attribute gives what they stand for."""

    how: Quantized
    multiplier: Tensor

    @property
    def whole(self) -> Tensor:
        """The whole numbers."""
        return cast("Tensor", self._parameters["weight"])

    @property
    def weight(self) -> Tensor:
        """The weight as real numbers, for who reads it without calling the layer."""
        multiplier = (
            self.multiplier
        )  # first: while the layer is being made there is none, and torch finds the parameter
        return real_weight(self.whole, multiplier, self.how)


class FloatConv2d(Wholes, nn.Conv2d):  # type: ignore[override]  # whose weight can be read, not set
    """The integer convolution in float32 operators that every back end has: its weight and bias are whole numbers."""

    def forward(self, images: Tensor) -> Tensor:
        """Return (N, O, H', W')."""
        q = quantise(images, self.how.scale, self.how.zero, self.how.high)
        window: Any = (self.stride, self.padding, self.dilation, self.groups)
        acc = functional.conv2d(q, self.whole, self.bias, *window)
        return rescale(_kept_whole(acc), self.multiplier, self.how.step)


class FloatLinear(Wholes, nn.Linear):  # type: ignore[override]  # whose weight can be read, not set
    """The integer dense layer in float32 operators that every back end has."""

    def forward(self, features: Tensor) -> Tensor:
        """Return (N, O)."""
        q = quantise(features, self.how.scale, self.how.zero, self.how.high)
        acc = functional.linear(q, self.whole, self.bias)
        return rescale(_kept_whole(acc), self.multiplier, self.how.step)


def _kept_whole(acc: Tensor) -> Tensor:
    """Return ``acc``; for ONNX with a rounding that changes nothing, without which runtimes scale the weights instead."""
    return torch.round(acc) if torch.onnx.is_in_onnx_export() else acc


def _own(layer: Any, outputs: int, how: Quantized) -> None:
    del layer.bias
    layer.register_buffer("bias", torch.zeros(outputs))  # whole numbers
    layer.register_buffer("multiplier", torch.ones(outputs))
    layer.how = how


def _float(layer: Any, source: Any) -> Any:
    layer.weight = nn.Parameter(source.form().detach(), requires_grad=False)
    layer.bias = nn.Parameter(source.bias.detach().clone(), requires_grad=False)
    layer.register_buffer("multiplier", source.multiplier.detach().clone())
    layer.how = source.how
    return layer
