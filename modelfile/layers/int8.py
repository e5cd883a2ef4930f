"""Layers in int8 arithmetic, specified bit for bit so that every kernel can reproduce them.

    q   = clamp(rint(x * (1 / scale)) + zero, 0, 2^a - 1)          float32 product, ties to even
    acc = sum over (q - zero) * w + bias                           int32 without overflow; padding is zero
    y   = float(acc) * multiplier[o]                               one float32 product
    y   = rint(y) * step                                           where ``step`` > 0

``multiplier`` = scale * s_w[o] / step. ``step`` is a power of two such that the largest output is about 2^14 steps: sums
of such outputs (residual additions, mean pooling over a few hundred pixels) are exact in float32 in any order. The hash
head has step 0, which leaves out the last rounding. A file whose accumulators could overflow int32 is refused.
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

EXACT = 1 << 24  # integers up to this size are exact in float32
LARGEST = (1 << 31) - (1 << 8)  # of an accumulator, so that a bias rounded to float32 still leaves it in int32
DOUBLES = 8  # images convolved at once in float64, for which torch unfolds the whole batch
ROWS = 512  # rows of a linear weight converted to floating point at once


def quantise(x: Tensor, scale: float, zero: float, high: float) -> Tensor:
    """Return the quantized input minus its zero point, q - zero, as integers in float32."""
    inverse = float(np.float32(1) / np.float32(scale))
    return torch.clamp(torch.round(x * inverse) + zero, 0, high) - zero


def rescale(acc: Tensor, multiplier: Tensor, step: float) -> Tensor:
    """Return the outputs y for accumulators (N, O[, H, W])."""
    y = acc * multiplier.view(-1, *[1] * (acc.ndim - 2))
    return torch.round(y) * step if step else y


def max_accumulator(integers: Tensor, high: float) -> Tensor:
    """Return the largest possible |accumulator| of each output without its bias (O,), float64, for inputs up to ``high``."""
    return torch.cat([rows.double().abs().sum(1) for rows in integers.flatten(1).split(ROWS)]) * high


def accumulator_dtype(integers: Tensor, bias: Tensor, high: float) -> torch.dtype:
    """Return the float dtype in which every partial sum is exact: float32 if a bound proves it sufficient, else float64."""
    most = float((max_accumulator(integers, high) + bias.abs()).max())
    return torch.float32 if most < EXACT else torch.float64


@torch.no_grad()
def put_bias(layer: Any, whole: Tensor) -> None:
    """Set the integer bias (O,) of a layer, clamped so that its accumulators cannot overflow."""
    room = (LARGEST - max_accumulator(layer.form.integers, layer.quantization.high)).clamp_min(0)
    layer.bias.copy_(torch.clamp(whole.double(), -room, room))


def real_weight(whole: Tensor, multiplier: Tensor, quantization: Quantized) -> Tensor:
    """Return the dequantized weight of a layer; ``multiplier`` holds the scale of each output channel."""
    steps = multiplier * ((quantization.step or 1.0) / quantization.scale)
    return whole * steps.view(-1, *[1] * (whole.ndim - 1))


@torch.library.custom_op("hashpress::int8_conv2d", mutates_args=())
def int8_conv2d(
    x: Tensor, integers: Tensor, bias: Tensor, multiplier: Tensor, numbers: Sequence[float], window: Sequence[int]
) -> Tensor:
    """Return the convolution of x (N, C, H, W) with ``integers`` (O, C / groups, kH, kW) int8.

    ``numbers`` are scale, zero, high and step; ``window`` is stride, padding, dilation (two each) and groups.
    """
    scale, zero, high, step = numbers
    kind = accumulator_dtype(integers, bias, high)
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
    kind = accumulator_dtype(integers, bias, high)
    q = quantise(x, scale, zero, high).to(kind)
    parts = zip(integers.split(ROWS), bias.split(ROWS), strict=True)
    acc = torch.cat([functional.linear(q, rows.to(kind), add.to(kind)).float() for rows, add in parts], 1)
    return rescale(acc, multiplier, step)


@int8_linear.register_fake
def _(x: Tensor, integers: Tensor, *_: Any) -> Tensor:
    return x.new_empty(len(x), len(integers))


class IntegerWeight(CompressedWeight):
    """An int8 weight; calling the module returns its integers as float32."""

    integers: Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("integers", torch.zeros(shape, dtype=torch.int8))

    def forward(self) -> Tensor:
        """Return the integers as float32."""
        return self.integers.float()


@dataclass(frozen=True)
class Quantized:
    """The edit that makes ``layer`` compute in integers of ``bits`` (weights) and ``activations`` bits (inputs), see above."""

    kind: ClassVar[str] = "int8"
    layer: str
    scale: float
    zero: int
    step: float
    bits: int = 8
    activations: int = 8

    @property
    def high(self) -> int:
        """The largest quantized input."""
        return (1 << self.activations) - 1

    @property
    def numbers(self) -> list[float]:
        """Scale, zero, high and step, in the order of the custom ops."""
        return [self.scale, float(self.zero), float(self.high), self.step]

    def apply(self, net: nn.Module) -> None:
        """Replace the plain layer by an integer one."""
        if not 2 <= self.bits <= 8 or not 2 <= self.activations <= 8:
            raise ModelFileError(f"{self}: bits and activations must be 2 to 8")
        if not 0 < self.scale < math.inf or not 0 <= self.zero <= self.high or not 0 <= self.step < math.inf:
            raise ModelFileError(f"{self}: scale, zero or step is out of range")
        layer = get_layer(net, self.layer)
        if isinstance(layer, nn.Conv2d) and layer.padding_mode == "zeros" and not isinstance(layer.padding, str):
            set_layer(net, self.layer, Int8Conv2d(layer, self))
        elif isinstance(layer, nn.Linear):
            set_layer(net, self.layer, Int8Linear(layer, self))
        else:
            raise ModelFileError(f"{self}: expected a zero-padded Conv2d or a Linear, found a {type(layer).__name__}")


class Int8Conv2d(CompressedConv2d):
    """A convolution in integer arithmetic, for inference only: it has no gradient."""

    quantization: Quantized
    multiplier: Tensor

    def __init__(self, layer: nn.Conv2d, quantization: Quantized) -> None:
        super().__init__(IntegerWeight(tuple(layer.weight.shape)), layer)
        _add_buffers(self, layer.out_channels, quantization)

    @property
    def weight(self) -> Tensor:
        """The dequantized weight, for code that reads it without calling the layer."""
        return real_weight(self.form(), self.multiplier, self.quantization)

    def forward(self, images: Tensor) -> Tensor:
        """Return (N, O, H', W')."""
        window = [*self.stride, *self.padding, *self.dilation, self.groups]
        return int8_conv2d(images, self.form.integers, self.bias, self.multiplier, self.quantization.numbers, window)

    def dense(self) -> nn.Conv2d:
        """Return a float32 convolution of integers with the same outputs wherever float32 sums are exact."""
        shape: tuple[Any, Any, Any, Any] = (self.kernel_size, self.stride, self.padding, self.dilation)
        layer = FloatConv2d(self.in_channels, self.out_channels, *shape, self.groups, device="meta")
        return _copy_parameters(layer, self)


class Int8Linear(CompressedLinear):
    """A linear layer in integer arithmetic, for inference only: it has no gradient."""

    quantization: Quantized
    multiplier: Tensor

    def __init__(self, layer: nn.Linear, quantization: Quantized) -> None:
        super().__init__(IntegerWeight(tuple(layer.weight.shape)), layer)
        _add_buffers(self, layer.out_features, quantization)

    @property
    def weight(self) -> Tensor:
        """The dequantized weight, for code that reads it without calling the layer."""
        return real_weight(self.form(), self.multiplier, self.quantization)

    def forward(self, features: Tensor) -> Tensor:
        """Return (N, O)."""
        return int8_linear(features, self.form.integers, self.bias, self.multiplier, self.quantization.numbers)

    def dense(self) -> nn.Linear:
        """Return a float32 linear layer of integers with the same outputs wherever float32 sums are exact."""
        return _copy_parameters(FloatLinear(self.in_features, self.out_features, device="meta"), self)


class IntegerValued(nn.Module):
    """A plain layer whose parameter ``weight`` holds integers; its attribute ``weight`` is dequantized."""

    quantization: Quantized
    multiplier: Tensor

    @property
    def integer_weight(self) -> Tensor:
        """The integer weight."""
        return cast("Tensor", self._parameters["weight"])

    @property
    def weight(self) -> Tensor:
        """The dequantized weight, for code that reads it without calling the layer."""
        multiplier = self.multiplier  # missing in __init__: the AttributeError makes torch return the parameter
        return real_weight(self.integer_weight, multiplier, self.quantization)


class FloatConv2d(IntegerValued, nn.Conv2d):  # type: ignore[override]  # whose weight can be read, not set
    """The integer convolution in float32 operators that every back end supports; weight and bias are integers."""

    def forward(self, images: Tensor) -> Tensor:
        """Return (N, O, H', W')."""
        q = quantise(images, self.quantization.scale, self.quantization.zero, self.quantization.high)
        window: Any = (self.stride, self.padding, self.dilation, self.groups)
        acc = functional.conv2d(q, self.integer_weight, self.bias, *window)
        return rescale(_rounded_for_onnx(acc), self.multiplier, self.quantization.step)


class FloatLinear(IntegerValued, nn.Linear):  # type: ignore[override]  # whose weight can be read, not set
    """The integer linear layer in float32 operators that every back end supports; weight and bias are integers."""

    def forward(self, features: Tensor) -> Tensor:
        """Return (N, O)."""
        q = quantise(features, self.quantization.scale, self.quantization.zero, self.quantization.high)
        acc = functional.linear(q, self.integer_weight, self.bias)
        return rescale(_rounded_for_onnx(acc), self.multiplier, self.quantization.step)


def _rounded_for_onnx(acc: Tensor) -> Tensor:
    """Return ``acc``; in ONNX export, with a Round that stops runtimes from fusing the rescaling into the weights."""
    return torch.round(acc) if torch.onnx.is_in_onnx_export() else acc


def _add_buffers(layer: Any, outputs: int, quantization: Quantized) -> None:
    del layer.bias
    layer.register_buffer("bias", torch.zeros(outputs))  # integers
    layer.register_buffer("multiplier", torch.ones(outputs))
    layer.quantization = quantization


def _copy_parameters(layer: Any, source: Any) -> Any:
    layer.weight = nn.Parameter(source.form().detach(), requires_grad=False)
    layer.bias = nn.Parameter(source.bias.detach().clone(), requires_grad=False)
    layer.register_buffer("multiplier", source.multiplier.detach().clone())
    layer.quantization = source.quantization
    return layer
