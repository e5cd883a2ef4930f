"""Dense layers: the weights stream through the registers once, which is all a layer of batch one can do.

The input is read in its blocked order; packing permutes the weights' columns to match, so flattening costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from tvm.tirx.script.builder import ir as tir

from ..table import Target
from .base import Kernel, Workload
from .epilogue import Epilogue
from .layout import BlockedLayout, chunks
from .packing import Interleave, Norm, Packing
from .vector import Lanes, copy, multiply_add

PREFETCH_DISTANCE = 512  # floats: how far in front of the multiplications weights are fetched
STREAM_FROM = (
    1 << 24
)  # bytes of weights from which memory is the limit, and the processor's own prefetching does better


@dataclass(frozen=True)
class Dense(Kernel):
    """``y = W x + b`` with ``x`` an activation flattened in (channel, row, column) order."""

    op: ClassVar[str] = "dense"

    norm: Norm | None
    epilogue: Epilogue
    multiplied: bool = False
    vectors: int = 8  # sums in flight: enough to hide the latency of a multiply-add on two units

    @classmethod
    def make(cls, work: Workload, target: Target) -> Dense:  # noqa: ARG003 - one schedule for all targets
        """Return the kernel."""
        return cls(work.inputs[0], work.output, work.norm, work.epilogue, work.multiplied)

    @property
    def inputs(self) -> tuple[BlockedLayout, ...]:
        """The layouts of what it reads."""
        return (self.input, *self.epilogue.others)

    @property
    def taps(self) -> int:
        """Floats of one output's packed weights."""
        return self.input.blocks * self.input.block * self.input.height * self.input.width

    @property
    def packing(self) -> Packing:
        """How its parameters lie in memory."""
        source, size = self.input, self.output.block
        area = source.height * source.width
        pieces = tuple(
            Interleave(first * size, bands, source.blocks, area, source.block, vectors * size)
            for first, bands, vectors in self._bands()
        )
        return Packing(
            self.output.channels, self.output.size, source.channels, self.taps, pieces, self.norm, self.multiplied
        )

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.input.channels * self.input.height * self.input.width * self.output.channels

    def _bands(self) -> Iterator[tuple[int, int, int]]:
        yield from chunks(self.output.blocks, self.vectors)

    def emit(self, lanes: Lanes, sources: Sequence[Any], weights: Any, out: Any) -> None:
        """Emit the loops."""
        source, count = self.input, lanes.count
        sums = lanes.sums(self.vectors * count)
        for first, bands, vectors in self._bands():
            split = max(1, self.vectors // vectors)  # few outputs: several partial sums of each, added at the end
            with tir.serial(0, bands) as band:
                block = first + band * vectors
                biases = self.packing.shifts + block * count
                for v in range(vectors):
                    copy(lanes, (sums, v * count), (weights, biases + v * count))
                for v in range(vectors, vectors * split):
                    lanes.fill(sums, v * count, 0.0)
                with (
                    tir.serial(0, source.blocks) as b,
                    tir.serial(0, source.height) as h,
                    tir.serial(0, source.width) as w,
                ):
                    start = ((b * source.height + h) * source.width + w) * source.block
                    for lane, steps, part in chunks(source.block, min(split, source.block)):
                        with tir.serial(0, steps) as step:
                            for s in range(part):
                                offset = lane + step * part + s
                                pixel = sources[0][source.at(b, h, w, offset)]
                                place = block * count * self.taps + (start + offset) * vectors * count
                                if 4 * self.packing.size < STREAM_FROM:
                                    lanes.prefetch(weights, place + PREFETCH_DISTANCE, vectors * count)
                                for v in range(vectors):
                                    multiply_add(
                                        lanes, sums, (s * vectors + v) * count, pixel, weights, place + v * count
                                    )
                for v in range(vectors):
                    self._finish(lanes, (block, v), (vectors, split), sources[1:], sums, (weights, out))

    def _finish(
        self,
        lanes: Lanes,
        place: tuple[Any, int],
        parts: tuple[int, int],
        others: Sequence[Any],
        sums: Any,
        memory: Any,
    ) -> None:
        (block, v), (vectors, split), (weights, y) = place, parts, memory

        def store(at: Any, splat: Any) -> None:
            value = sums[at(v * lanes.count)]
            for s in range(1, split):
                value = value + sums[at((s * vectors + v) * lanes.count)]
            pixel = (block + v, 0, 0)
            value = self.packing.rescale(value, weights, (block + v) * lanes.count, at)
            value = self.epilogue.apply(value, pixel, others, at, splat)
            tir.buffer_store(y, value, [at(self.output.at(*pixel))])

        lanes.each(store)
