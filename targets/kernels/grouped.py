"""Convolutions whose groups cut through channel blocks: depthwise by whole vectors, anything else one number at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm.tirx.script.builder import ir as tir

from .epilogue import Epilogue
from .layout import Grid
from .packing import Interleave, Norm, Packing
from .vector import Lanes


@dataclass(frozen=True)
class GroupedConv:
    """A convolution of any number of groups; right for every shape, fast for depthwise ones."""

    source: Grid
    target: Grid
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    norm: Norm | None
    epilogue: Epilogue
    multiplied: bool = False

    @property
    def inputs(self) -> tuple[Grid, ...]:
        """The grids it reads."""
        return (self.source, *self.epilogue.others)

    @property
    def depthwise(self) -> bool:
        """Whether every channel has its own filter, so that lanes never mix."""
        return self.groups == self.source.channels == self.target.channels and self.source.block == self.target.block

    @property
    def taps(self) -> int:
        """Weights of one output channel."""
        return self.source.channels // self.groups * self.kernel[0] * self.kernel[1]

    @property
    def packing(self) -> Packing:
        """How its parameters lie in memory: ``[block][tap][lane]``."""
        inputs, area, size = self.source.channels // self.groups, self.kernel[0] * self.kernel[1], self.target.block
        pieces = (Interleave(0, self.target.blocks, inputs, area, 1, size),)
        padded = self.target.blocks * size
        return Packing(self.target.channels, padded, inputs, self.taps, pieces, self.norm, self.multiplied)

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.target.height * self.target.width * self.target.channels * self.taps

    def _pixel(self, block: Any, row: Any, column: Any, lane: Any, tap: tuple[Any, Any]) -> Any:
        h = row * self.stride[0] + tap[0] * self.dilation[0] - self.padding[0]
        w = column * self.stride[1] + tap[1] * self.dilation[1] - self.padding[1]
        return self.source.at(block, h, w, lane)

    def body(self, lanes: Lanes, sources: Sequence[Any], weights: Any, target: Any) -> None:
        """Emit the loops."""
        self.target.clear_border(lanes, target)
        sums = lanes.sums(lanes.count)
        grid = (self.target.blocks, self.target.height, self.target.width)
        with tir.serial(0, grid[0]) as b, tir.serial(0, grid[1]) as h, tir.serial(0, grid[2]) as w:
            biases = self.packing.shifts + b * lanes.count
            lanes.each(lambda at, _: tir.buffer_store(sums, weights[at(biases)], [at(0)]))
            reduce = self._by_vector if self.depthwise else self._by_number
            reduce(lanes, (b, h, w), sources[0], weights, sums)

            def store(at: Any, splat: Any) -> None:
                value = self.packing.complete(sums[at(0)], weights, b * lanes.count, at)
                value = self.epilogue.apply(value, (b, h, w), sources[1:], at, splat)
                tir.buffer_store(target, value, [at(self.target.at(b, h, w))])

            lanes.each(store)

    def _by_vector(self, lanes: Lanes, place: tuple[Any, Any, Any], x: Any, weights: Any, sums: Any) -> None:
        b, h, w = place
        with tir.serial(0, self.kernel[0]) as kh, tir.serial(0, self.kernel[1]) as kw:
            spot = (b * self.taps + kh * self.kernel[1] + kw) * lanes.count
            pixel = self._pixel(b, h, w, 0, (kh, kw))
            lanes.each(lambda at, _: tir.buffer_store(sums, sums[at(0)] + x[at(pixel)] * weights[at(spot)], [at(0)]))

    def _by_number(self, lanes: Lanes, place: tuple[Any, Any, Any], x: Any, weights: Any, sums: Any) -> None:
        b, h, w = place
        depth, size = self.source.channels // self.groups, self.source.block
        for lane in range(lanes.count):
            channel = b * lanes.count + lane
            with tir.If(channel < self.target.channels), tir.Then():
                first = channel // (self.target.channels // self.groups) * depth
                with (
                    tir.serial(0, depth) as d,
                    tir.serial(0, self.kernel[0]) as kh,
                    tir.serial(0, self.kernel[1]) as kw,
                ):
                    source = first + d
                    tap = (d * self.kernel[0] + kh) * self.kernel[1] + kw
                    pixel = x[self._pixel(source // size, h, w, source % size, (kh, kw))]
                    weight = weights[(b * self.taps + tap) * lanes.count + lane]
                    tir.buffer_store(sums, sums[lane] + pixel * weight, [lane])
