"""Direct convolution on blocked layouts: no im2col, no tuning, one rule that picks the tile.

A tile is ``rows x columns`` pixels of ``vectors`` channel blocks; its sums stay in vector registers over the whole reduction.
Weights are packed ``[channel group][input block][kh][kw][input lane][vectors * lanes]``, so that they stream; the pixels
are scalars that the processor broadcasts, which is why the first layer reads the planar image as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, ClassVar

from tvm.tirx.script.builder import ir as tir

from ..table import Target
from .base import Kernel, Workload
from .epilogue import Epilogue
from .layout import BlockedLayout, chunks
from .packing import Interleave, Norm, Packing
from .vector import CACHE_LINE, Lanes, copy, multiply_add

Expr = Any
PREFETCH_FROM = 1 << 15  # bytes of weights that do not stay in the first-level cache


@dataclass(frozen=True)
class Tile:
    """Sums held in registers: ``rows * columns * vectors`` of them."""

    rows: int
    columns: int
    vectors: int


def choose_tile(height: int, width: int, blocks: int, registers: int) -> Tile:
    """Return the tile for an output of ``height x width`` pixels and ``blocks`` channel blocks.

    Two channel blocks share every broadcast pixel; the sums fill most of the registers, with room for the weights
    and one pixel; widths are cut into equal pieces so that no tile is nearly empty.
    """
    vectors = min(2, blocks)
    pixels = (registers - vectors - 2) // vectors
    columns = -(-width // -(-width // pixels))
    rows = max(1, min(pixels // columns, height))
    return Tile(-(-height // -(-height // rows)), columns, vectors)


@dataclass(frozen=True)
class Conv(Kernel):
    """A convolution whose groups (often one) begin and end at channel blocks, with bias, batch norm and epilogue."""

    op: ClassVar[str] = "conv"

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    norm: Norm | None
    epilogue: Epilogue
    tile: Tile
    multiplied: bool = False

    @classmethod
    def mismatch(cls, work: Workload, target: Target) -> str | None:
        """Return why not; groups must not share a channel block."""
        if (reason := super().mismatch(work, target)) is not None:
            return reason
        groups = work.node.attrs["groups"]
        if groups > 1 and any(x.channels // groups % x.block for x in (work.inputs[0], work.output)):
            return f"{cls.__name__} needs groups of whole channel blocks"
        return None

    @classmethod
    def make(cls, work: Workload, target: Target) -> Conv:
        """Return the kernel with the tile for the target's registers."""
        out = work.output
        tile = choose_tile(out.height, out.width, out.blocks // work.attrs["groups"], target.registers)
        return cls(
            work.inputs[0], out, **work.attrs, norm=work.norm, epilogue=work.epilogue, tile=tile,
            multiplied=work.multiplied,
        )  # fmt: skip

    @property
    def inputs(self) -> tuple[BlockedLayout, ...]:
        """The layouts of what it reads."""
        return (self.input, *self.epilogue.others)

    @property
    def depth(self) -> int:
        """Input blocks of one group."""
        return -(-self.input.channels // self.groups // self.input.block)

    @property
    def taps(self) -> int:
        """Floats of one output channel's packed weights."""
        return self.depth * self.kernel[0] * self.kernel[1] * self.input.block

    @property
    def packing(self) -> Packing:
        """How its parameters lie in memory."""
        channels, size = self.output.channels, self.output.block
        area = self.kernel[0] * self.kernel[1]
        pieces = tuple(
            Interleave(first * size, count, self.depth, area, self.input.block, vectors * size)
            for first, count, vectors, _ in self._bands()
        )
        inputs = self.input.channels // self.groups
        return Packing(channels, self.output.blocks * size, inputs, self.taps, pieces, self.norm, self.multiplied)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the layer, without what padding to whole blocks adds."""
        pixels = self.output.height * self.output.width * self.output.channels
        return pixels * self.input.channels // self.groups * self.kernel[0] * self.kernel[1]

    def _bands(self) -> Iterator[tuple[int, int, int, int]]:
        """Yield (first block, bands, blocks per band, first input block), for each group of channels."""
        blocks = self.output.blocks // self.groups
        for group in range(self.groups):
            for start, count, vectors in chunks(blocks, self.tile.vectors):
                yield group * blocks + start, count, vectors, group * self.depth

    def _depths(self) -> Iterator[tuple[int, int, int]]:
        """Yield (first input block, blocks, lanes in use)."""
        for start, count, used in chunks(self.input.channels // self.groups, self.input.block):
            yield start // self.input.block, count, used

    def emit(self, lanes: Lanes, sources: Sequence[Any], weights: Any, out: Any) -> None:
        """Emit the loops."""
        self.output.clear_border(lanes, out)
        area = self.tile.rows * self.tile.columns * self.tile.vectors * lanes.count
        sums = lanes.sums(area)
        across = -(-self.output.width // self.tile.columns)
        for first, count, vectors, base in self._bands():
            with tir.serial(0, count) as band:
                block = first + band * vectors
                for row, tall, rows in chunks(self.output.height, self.tile.rows):
                    for column, wide, columns in chunks(self.output.width, self.tile.columns):
                        with tir.serial(0, tall) as i, tir.serial(0, wide) as j:
                            corner = (row + i * rows, column + j * columns)
                            tile = Tile(rows, columns, vectors)
                            turn = (row // self.tile.rows + i) * across + column // self.tile.columns + j
                            self._reduce(lanes, tile, (block, base, *corner, turn), sources[0], weights, sums)
                            self._finish(lanes, tile, (block, *corner), sources[1:], sums, (weights, out))

    def _reduce(self, lanes: Lanes, tile: Tile, place: tuple[Expr, ...], x: Any, w: Any, sums: Any) -> None:
        block, base, row, column, turn = place
        count, taps = lanes.count, self.taps
        biases = self.packing.shifts
        pixels = [(r, c) for r in range(tile.rows) for c in range(tile.columns)]
        for v in range(tile.vectors):
            for p in range(len(pixels)):
                spot = (p * tile.vectors + v) * count
                copy(lanes, (sums, spot), (w, biases + (block + v) * count))
        for first, depth, used in self._depths():
            with ExitStack() as loops:
                d = first + loops.enter_context(tir.serial(0, depth))
                kh = loops.enter_context(tir.serial(0, self.kernel[0]))
                kw = loops.enter_context(tir.serial(0, self.kernel[1]))
                tap = ((d * self.kernel[0] + kh) * self.kernel[1] + kw) * self.input.block
                self._prefetch(lanes, w, (block + tile.vectors) * count * taps, tap * tile.vectors * count, turn)
                lane = loops.enter_context(tir.serial(0, used)) if used > 1 else 0
                tap = tap + lane
                stream = block * count * taps + tap * tile.vectors * count
                for p, (r, c) in enumerate(pixels):
                    h = (row + r) * self.stride[0] + kh * self.dilation[0] - self.padding[0]
                    k = (column + c) * self.stride[1] + kw * self.dilation[1] - self.padding[1]
                    pixel = x[self.input.at(base + d, h, k, lane)]
                    for v in range(tile.vectors):
                        multiply_add(lanes, sums, (p * tile.vectors + v) * count, pixel, w, stream + v * count)

    def _prefetch(self, lanes: Lanes, weights: Any, band: Expr, tap: Expr, turn: Expr) -> None:
        """Emit prefetches of this tile's share of the next band's weights, where all weights exceed the caches.

        Otherwise the first tile of a band waits for memory and the others compute; behind the last band lie the next
        layer's weights.
        """
        if 4 * self.packing.size < PREFETCH_FROM:
            return
        turns = -(-self.output.height // self.tile.rows) * -(-self.output.width // self.tile.columns)
        lines = -(-self.input.block * self.tile.vectors * lanes.count // CACHE_LINE)
        share = -(-lines // turns) * CACHE_LINE
        lanes.prefetch(weights, band + tap + turn * share, share)

    def _finish(
        self, lanes: Lanes, tile: Tile, place: tuple[Expr, ...], others: Sequence[Any], sums: Any, memory: Any
    ) -> None:
        (block, row, column), (weights, y) = place, memory
        for v in range(tile.vectors):
            for p in range(tile.rows * tile.columns):
                pixel = (block + v, row + p // tile.columns, column + p % tile.columns)
                spot = (p * tile.vectors + v) * lanes.count

                def store(at: Any, splat: Any, pixel: Any = pixel, spot: int = spot) -> None:
                    value = self.packing.rescale(sums[at(spot)], weights, pixel[0] * lanes.count, at)
                    value = self.epilogue.apply(value, pixel, others, at, splat)
                    tir.buffer_store(y, value, [at(self.output.at(*pixel))])

                lanes.each(store)
