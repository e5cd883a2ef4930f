"""Moves: slices with steps, zero padding, and changes of layout (planar image to blocks and back)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tvm.tirx.script.builder import ir as tir

from .layout import Grid
from .vector import Lanes


@dataclass(frozen=True)
class Window:
    """``y[c, h, w] = x[c + c0, h * sh + h0, w * sw + w0]``, zero where that lies outside ``x``.

    With offsets of zero and steps of one it only changes the layout. ResNet's option A shortcut is one of these.
    """

    source: Grid
    target: Grid
    offset: tuple[int, int, int] = (0, 0, 0)
    step: tuple[int, int] = (1, 1)
    packing: None = None
    macs: int = 0

    @property
    def inputs(self) -> tuple[Grid, ...]:
        """The grids it reads."""
        return (self.source,)

    def body(self, lanes: Lanes, sources: Sequence[Any], weights: Any, target: Any) -> None:  # noqa: ARG002
        """Emit the loops."""
        self.target.clear_border(lanes, target)
        if self.target.block == 1:
            self._planar(sources[0], target)
            return
        with tir.serial(0, self.target.height) as h, tir.serial(0, self.target.width) as w:
            for place, source, count in self._pieces():
                self._piece(lanes, (h, w), (place, source, count), sources[0], target)

    def _row_column(self, h: Any, w: Any) -> tuple[Any, Any, Any]:
        """Return the source's row and column, and whether they exist (None: always)."""
        row, column = h * self.step[0] + self.offset[1], w * self.step[1] + self.offset[2]
        height, width = self.source.height, self.source.width
        last = [(self.target.shape[1 + i] - 1) * self.step[i] + self.offset[1 + i] for i in (0, 1)]
        if min(self.offset[1:]) >= 0 and last[0] < height and last[1] < width:
            return row, column, None
        return row, column, (row >= 0) & (row < height) & (column >= 0) & (column < width)

    def _pieces(self) -> Iterator[tuple[int, int | None, int]]:
        """Yield (first target channel, first source channel or none, count), none of them crossing a block."""
        channel, end = 0, self.target.blocks * self.target.block
        while channel < end:
            source = channel + self.offset[0]
            count = self.target.block - channel % self.target.block
            if channel < self.target.channels and 0 <= source < self.source.channels:
                count = min(count, self.source.block - source % self.source.block, self.source.channels - source)
                count = min(count, self.target.channels - channel)
                yield channel, source, count
            else:
                edge = -self.offset[0]  # the target channel of the source's first one
                count = min(count, edge - channel) if channel < edge else count
                yield channel, None, count
            channel += count

    def _piece(self, lanes: Lanes, place: tuple[Any, Any], piece: tuple[int, int | None, int], x: Any, y: Any) -> None:
        (h, w), (channel, source, count) = place, piece
        spot = self.target.at(channel // self.target.block, h, w, channel % self.target.block)
        row, column, exists = self._row_column(h, w)
        if source is None:
            lanes.fill(y, spot, 0.0, count)
            return
        origin = self.source.at(source // self.source.block, row, column, source % self.source.block)

        def copy() -> None:
            lanes.each(lambda at, _: tir.buffer_store(y, x[at(origin)], [at(spot)]), count)

        if exists is None:
            copy()
            return
        with tir.If(exists):
            with tir.Then():
                copy()
            with tir.Else():
                lanes.fill(y, spot, 0.0, count)

    def _planar(self, x: Any, y: Any) -> None:
        extents = (tir.serial(0, extent) for extent in self.target.shape)
        with next(extents) as c, next(extents) as h, next(extents) as w:
            row, column, exists = self._row_column(h, w)
            channel = c + self.offset[0]
            if self.offset[0] < 0 or self.offset[0] + self.target.channels > self.source.channels:
                inside = (channel >= 0) & (channel < self.source.channels)
                exists = inside if exists is None else exists & inside
            size = self.source.block
            value = x[self.source.at(channel // size, row, column, channel % size)]
            value = value if exists is None else tir.if_then_else(exists, value, tir.float32(0))
            tir.buffer_store(y, value, [self.target.at(c, h, w)])
