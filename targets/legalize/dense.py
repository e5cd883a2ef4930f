"""Dense layers: the weights stream through the registers once, which is all a layer of batch one can do.

The input is read in its blocked order; packing permutes the weights' columns to match, so flattening costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tvm.tirx.script.builder import ir as T

from ..grids import Grid, runs
from .epilogue import Epilogue
from .lanes import FLOAT, Lanes
from .packing import Norm, scale_of, scaled_bias


@dataclass(frozen=True)
class Dense:
    """``y = W x + b`` with ``x`` a grid flattened in (channel, row, column) order."""

    source: Grid
    target: Grid
    bias: bool
    norm: Norm | None
    epilogue: Epilogue
    vectors: int = 8  # sums in flight: enough to hide the latency of a multiply-add on two units

    @property
    def inputs(self) -> tuple[Grid, ...]:
        """The grids it reads."""
        return (self.source, *self.epilogue.others)

    @property
    def taps(self) -> int:
        """Floats of one output's packed weights."""
        return self.source.blocks * self.source.block * self.source.height * self.source.width

    @property
    def packed(self) -> int:
        """Floats of packed weights and biases."""
        return self.target.size * (self.taps + 1)

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.source.channels * self.source.height * self.source.width * self.target.channels

    def _bands(self) -> Iterator[tuple[int, int, int]]:
        yield from runs(self.target.blocks, self.vectors)

    def body(self, lanes: Lanes, sources: Sequence[Any], weights: Any, target: Any) -> None:
        """Emit the loops."""
        source, count = self.source, lanes.count
        sums = T.alloc_buffer((self.vectors * count,), FLOAT, scope="local")
        for first, bands, vectors in self._bands():
            split = max(1, self.vectors // vectors)  # few outputs: several partial sums of each, added at the end
            with T.serial(0, bands) as band:
                block = first + band * vectors
                biases = self.target.size * self.taps + block * count
                for v in range(vectors * split):
                    if v < vectors:
                        lanes.each(lambda at, _, v=v: T.buffer_store(sums, weights[at(biases + v * count)], [at(v * count)]))
                    else:
                        lanes.fill(sums, v * count, 0.0)
                with T.serial(0, source.blocks) as b, T.serial(0, source.height) as h, T.serial(0, source.width) as w:
                    start = ((b * source.height + h) * source.width + w) * source.block
                    for lane, steps, part in runs(source.block, min(split, source.block)):
                        with T.serial(0, steps) as step:
                            for s in range(part):
                                offset = lane + step * part + s
                                pixel = sources[0][source.at(b, h, w, offset)]
                                place = block * count * self.taps + (start + offset) * vectors * count
                                for v in range(vectors):
                                    self._step(lanes, sums, (s * vectors + v) * count, pixel, weights, place + v * count)
                for v in range(vectors):
                    self._finish(lanes, (block, v), (vectors, split), sources[1:], sums, target)

    @staticmethod
    def _step(lanes: Lanes, sums: Any, spot: int, pixel: Any, weights: Any, place: Any) -> None:
        lanes.each(
            lambda at, splat: T.buffer_store(sums, sums[at(spot)] + splat(pixel) * weights[at(place)], [at(spot)])
        )

    def _finish(
        self, lanes: Lanes, place: tuple[Any, int], parts: tuple[int, int], others: Sequence[Any], sums: Any, y: Any
    ) -> None:
        (block, v), (vectors, split) = place, parts

        def store(at: Any, splat: Any) -> None:
            value = sums[at(v * lanes.count)]
            for s in range(1, split):
                value = value + sums[at((s * vectors + v) * lanes.count)]
            pixel = (block + v, 0, 0)
            value = self.epilogue.apply(value, pixel, others, at, splat)
            T.buffer_store(y, value, [at(self.target.at(*pixel))])

        lanes.each(store)

    def pack(self, lanes: Lanes, raw: Sequence[Any], packed: Any) -> None:
        """Emit the loops that bring weights (O, I) and bias into the order of ``body``."""
        source, count = self.source, lanes.count
        area = source.height * source.width
        for first, bands, vectors in self._bands():
            with T.serial(0, bands) as band, T.serial(0, self.taps) as tap, T.serial(0, vectors * count) as o:
                output = (first + band * vectors) * count + o
                channel = tap // (area * source.block) * source.block + tap % source.block
                pixel = tap // source.block % area
                place = (first + band * vectors) * count * self.taps + tap * vectors * count + o
                with T.If((output < self.target.channels) & (channel < source.channels)):
                    with T.Then():
                        value = raw[0][(output * source.channels + channel) * area + pixel]
                        T.buffer_store(packed, value * scale_of(self.norm, self.bias, raw, output), [place])
                    with T.Else():
                        T.buffer_store(packed, T.float32(0), [place])
        scaled_bias(self.norm, self.bias, raw, packed, self.target, self.target.size * self.taps)
