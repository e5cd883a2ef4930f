"""Convolutions whose groups cut through channel blocks: depthwise by whole vectors, anything else one element at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from tvm.tirx.script.builder import ir as tir

from ..table import Target
from .base import Kernel, Workload
from .epilogue import Epilogue
from .layout import BlockedLayout
from .packing import Interleave, Norm, Packing
from .vector import Lanes


@dataclass(frozen=True)
class GroupedConv(Kernel):
    """A convolution of any number of groups; right for every shape, fast for depthwise ones."""

    op: ClassVar[str] = "conv"

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    norm: Norm | None
    epilogue: Epilogue
    multiplied: bool = False

    @classmethod
    def make(cls, work: Workload, target: Target) -> GroupedConv:  # noqa: ARG003 - one schedule for all targets
        """Return the kernel."""
        norm, epilogue, multiplied = work.norm, work.epilogue, work.multiplied
        return cls(work.inputs[0], work.output, **work.attrs, norm=norm, epilogue=epilogue, multiplied=multiplied)

    @property
    def inputs(self) -> tuple[BlockedLayout, ...]:
        """The layouts of what it reads."""
        return (self.input, *self.epilogue.others)

    @property
    def depthwise(self) -> bool:
        """Whether every channel has its own filter, so that lanes never mix."""
        return self.groups == self.input.channels == self.output.channels and self.input.block == self.output.block

    @property
    def taps(self) -> int:
        """Weights of one output channel."""
        return self.input.channels // self.groups * self.kernel[0] * self.kernel[1]

    @property
    def packing(self) -> Packing:
        """How its parameters lie in memory: ``[block][tap][lane]``."""
        inputs, area, size = self.input.channels // self.groups, self.kernel[0] * self.kernel[1], self.output.block
        pieces = (Interleave(0, self.output.blocks, inputs, area, 1, size),)
        padded = self.output.blocks * size
        return Packing(self.output.channels, padded, inputs, self.taps, pieces, self.norm, self.multiplied)

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.output.height * self.output.width * self.output.channels * self.taps

    def _pixel(self, block: Any, row: Any, column: Any, lane: Any, tap: tuple[Any, Any]) -> Any:
        h = row * self.stride[0] + tap[0] * self.dilation[0] - self.padding[0]
        w = column * self.stride[1] + tap[1] * self.dilation[1] - self.padding[1]
        return self.input.at(block, h, w, lane)

    def emit(self, lanes: Lanes, sources: Sequence[Any], weights: Any, out: Any) -> None:
        """Emit the loops."""
        self.output.clear_border(lanes, out)
        sums = lanes.sums(lanes.count)
        shape = (self.output.blocks, self.output.height, self.output.width)
        with tir.serial(0, shape[0]) as b, tir.serial(0, shape[1]) as h, tir.serial(0, shape[2]) as w:
            biases = self.packing.shifts + b * lanes.count
            lanes.each(lambda at, _: tir.buffer_store(sums, weights[at(biases)], [at(0)]))
            reduce = self._by_vector if self.depthwise else self._by_scalar
            reduce(lanes, (b, h, w), sources[0], weights, sums)

            def store(at: Any, splat: Any) -> None:
                value = self.packing.rescale(sums[at(0)], weights, b * lanes.count, at)
                value = self.epilogue.apply(value, (b, h, w), sources[1:], at, splat)
                tir.buffer_store(out, value, [at(self.output.at(b, h, w))])

            lanes.each(store)

    def _by_vector(self, lanes: Lanes, place: tuple[Any, Any, Any], x: Any, weights: Any, sums: Any) -> None:
        b, h, w = place
        with tir.serial(0, self.kernel[0]) as kh, tir.serial(0, self.kernel[1]) as kw:
            spot = (b * self.taps + kh * self.kernel[1] + kw) * lanes.count
            pixel = self._pixel(b, h, w, 0, (kh, kw))
            lanes.each(lambda at, _: tir.buffer_store(sums, sums[at(0)] + x[at(pixel)] * weights[at(spot)], [at(0)]))

    def _by_scalar(self, lanes: Lanes, place: tuple[Any, Any, Any], x: Any, weights: Any, sums: Any) -> None:
        b, h, w = place
        depth, size = self.input.channels // self.groups, self.input.block
        for lane in range(lanes.count):
            channel = b * lanes.count + lane
            with tir.If(channel < self.output.channels), tir.Then():
                first = channel // (self.output.channels // self.groups) * depth
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
