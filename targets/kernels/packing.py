"""Weights in the order in which kernels stream them; biases and batch norms as one shift per channel.

All layers share two functions with sizes as arguments, so that packing costs the compiler nothing. They run once, when a
bundle is opened.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script.builder import ir as tir

from .vector import FLOAT, Index

MAX_FLOATS = 1 << 30  # floats of one tensor: what 32-bit indices reach


@dataclass(frozen=True)
class Norm:
    """A batch norm in evaluation mode: weight, bias, mean, variance and ``epsilon``."""

    epsilon: float


@dataclass(frozen=True)
class Interleave:
    """Packed ``[band][depth][area][lane][width]`` of weights (outputs, inputs, area), in which lanes divide inputs.

    ``first`` is the first output channel; channels and inputs behind the last ones become zero.
    """

    first: int
    bands: int
    depth: int
    area: int
    lanes: int
    width: int

    @property
    def sizes(self) -> tuple[int, ...]:
        """The arguments of :func:`interleave_function` behind the buffers, without channels and inputs."""
        return (self.first, self.bands, self.depth, self.area, self.lanes, self.width)


@dataclass(frozen=True)
class Packing:
    """The packed parameters of one layer: weights in pieces, then a shift and a scale for each of ``padded`` channels.

    Scales are multiplied into the weights. Where sums must stay as they are until they are complete, ``multiplied``
    layers have a third number for each channel, which the kernel multiplies with what it summed up.
    """

    channels: int
    padded: int
    inputs: int = 0
    taps: int = 0  # floats of one output's packed weights
    pieces: tuple[Interleave, ...] = ()
    norm: Norm | None = None
    multiplied: bool = False

    @property
    def shifts(self) -> int:
        """Where the shifts begin, in floats."""
        return self.padded * self.taps

    @property
    def scales(self) -> int:
        """Where the scales begin, in floats."""
        return self.shifts + self.padded

    @property
    def size(self) -> int:
        """Floats."""
        return self.factors + self.padded * self.multiplied

    @property
    def factors(self) -> int:
        """Where the multipliers begin, in floats."""
        return self.scales + self.padded

    def rescale(self, total: Any, weights: Any, channel: Any, at: Index) -> Any:
        """Return the sums of the channels from ``channel`` on, multiplied where the layer asks for it."""
        return total * weights[at(self.factors + channel)] if self.multiplied else total


def interleave_function() -> Any:
    """Return ``interleave(weights, parameters, out, sizes of an Interleave, channels, inputs, start of scales)``."""
    with IRBuilder() as builder, tir.prim_func(private=True, s_tir=True):
        tir.func_name("interleave")
        names = ("first", "bands", "depth", "area", "lanes", "width", "channels", "inputs", "scales", "start")
        (weights, packed), sizes, _ = _arguments(("weights", "packed"), names)
        first, bands, depth, area, lanes, width, channels, inputs, scales, start = sizes
        with (
            tir.serial(0, bands) as n,
            tir.serial(0, depth) as d,
            tir.serial(0, area) as a,
            tir.serial(0, lanes) as lane,
        ):
            source = d * lanes + lane
            place = start + (((n * depth + d) * area + a) * lanes + lane) * width
            with tir.serial(0, width) as o:
                channel = first + n * width + o
                with tir.If((channel < channels) & (source < inputs)):
                    with tir.Then():
                        value = weights[(channel * inputs + source) * area + a] * packed[scales + channel]
                        tir.buffer_store(packed, value, [place + o])
                    with tir.Else():
                        tir.buffer_store(packed, tir.float32(0), [place + o])
    return builder.get()


def affine_function() -> Any:
    """Return ``affine(bias, ..., multiplier, parameters, ...)``, which writes shifts, scales and multipliers."""
    with IRBuilder() as builder, tir.prim_func(private=True, s_tir=True):
        tir.func_name("affine")
        tensors = ("bias", "gamma", "beta", "mean", "variance", "multiplier", "packed")
        names = ("shifts", "channels", "padded", "has_bias", "has_norm", "multiplied")
        buffers, sizes, (epsilon,) = _arguments(tensors, names, (tir.float32(),))
        bias, gamma, beta, mean, variance, multiplier, packed = buffers
        shifts, channels, padded, has_bias, has_norm, multiplied = sizes
        with tir.serial(0, padded) as channel:
            shift, scale = shifts + channel, shifts + padded + channel
            tir.buffer_store(packed, tir.float32(0), [shift])
            tir.buffer_store(packed, tir.float32(1), [scale])
            with tir.If((channel < channels) & (has_bias > 0)), tir.Then():
                tir.buffer_store(packed, bias[channel], [shift])
            with tir.If((channel < channels) & (has_norm > 0)), tir.Then():
                tir.buffer_store(packed, gamma[channel] / tirx.sqrt(variance[channel] + epsilon), [scale])
                tir.buffer_store(packed, (packed[shift] - mean[channel]) * packed[scale] + beta[channel], [shift])
            with tir.If(multiplied > 0), tir.Then():
                factor = tir.if_then_else(channel < channels, multiplier[channel], tir.float32(0))
                tir.buffer_store(packed, factor, [scale + padded])
    return builder.get()


def _arguments(
    pointers: tuple[str, ...], numbers: tuple[str, ...], more: tuple[Any, ...] = ()
) -> tuple[list[Any], ...]:
    """Declare a function's arguments: buffers of any size, whole numbers, and others; returned in these groups."""
    handles = [tir.arg(name, tir.handle(FLOAT)) for name in pointers]
    integers = [tir.arg(name, tir.int32()) for name in numbers]
    others = [tir.arg(f"other{number}", value) for number, value in enumerate(more)]
    return [tir.decl_buffer((MAX_FLOATS,), FLOAT, data=handle) for handle in handles], integers, others
