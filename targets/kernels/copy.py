"""Copies: strided slices, zero padding, and changes of layout (plain CHW to channel blocks and back)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from tvm.tirx.script.builder import ir as tir

from ..table import Target
from .base import Kernel, Workload
from .vector import Lanes


@dataclass(frozen=True)
class StridedCopy(Kernel):
    """``y[c, h, w] = x[c + c0, h * sh + h0, w * sw + w0]``, zero where that lies outside ``x``.

    With offsets of zero and steps of one it only changes the layout. ResNet's option A shortcut is one of these.
    """

    op: ClassVar[str] = "copy"

    offset: tuple[int, int, int] = (0, 0, 0)
    step: tuple[int, int] = (1, 1)

    @classmethod
    def make(cls, work: Workload, target: Target) -> StridedCopy:  # noqa: ARG003 - one schedule for all targets
        """Return the kernel."""
        return cls(work.inputs[0], work.output, **work.attrs)

    def emit(self, lanes: Lanes, sources: Sequence[Any], weights: Any, out: Any) -> None:  # noqa: ARG002
        """Emit the loops."""
        self.output.clear_border(lanes, out)
        if self.output.block == 1:
            self._planar(sources[0], out)
            return
        with tir.serial(0, self.output.height) as h, tir.serial(0, self.output.width) as w:
            for place, source, count in self._channel_runs():
                self._copy_run(lanes, (h, w), (place, source, count), sources[0], out)

    def _row_column(self, h: Any, w: Any) -> tuple[Any, Any, Any]:
        """Return the input's row and column, and whether they exist (None: always)."""
        row, column = h * self.step[0] + self.offset[1], w * self.step[1] + self.offset[2]
        height, width = self.input.height, self.input.width
        last = [(self.output.shape[1 + i] - 1) * self.step[i] + self.offset[1 + i] for i in (0, 1)]
        if min(self.offset[1:]) >= 0 and last[0] < height and last[1] < width:
            return row, column, None
        return row, column, (row >= 0) & (row < height) & (column >= 0) & (column < width)

    def _channel_runs(self) -> Iterator[tuple[int, int | None, int]]:
        """Yield (first output channel, first input channel or None, count), none of them crossing a block."""
        channel, end = 0, self.output.blocks * self.output.block
        while channel < end:
            source = channel + self.offset[0]
            count = self.output.block - channel % self.output.block
            if channel < self.output.channels and 0 <= source < self.input.channels:
                count = min(count, self.input.block - source % self.input.block, self.input.channels - source)
                count = min(count, self.output.channels - channel)
                yield channel, source, count
            else:
                edge = -self.offset[0]  # the output channel of the input's first one
                count = min(count, edge - channel) if channel < edge else count
                yield channel, None, count
            channel += count

    def _copy_run(
        self, lanes: Lanes, place: tuple[Any, Any], piece: tuple[int, int | None, int], x: Any, y: Any
    ) -> None:
        (h, w), (channel, source, count) = place, piece
        spot = self.output.at(channel // self.output.block, h, w, channel % self.output.block)
        row, column, exists = self._row_column(h, w)
        if source is None:
            lanes.fill(y, spot, 0.0, count)
            return
        origin = self.input.at(source // self.input.block, row, column, source % self.input.block)

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
        extents = (tir.serial(0, extent) for extent in self.output.shape)
        with next(extents) as c, next(extents) as h, next(extents) as w:
            row, column, exists = self._row_column(h, w)
            channel = c + self.offset[0]
            if self.offset[0] < 0 or self.offset[0] + self.output.channels > self.input.channels:
                inside = (channel >= 0) & (channel < self.input.channels)
                exists = inside if exists is None else exists & inside
            size = self.input.block
            value = x[self.input.at(channel // size, row, column, channel % size)]
            value = value if exists is None else tir.if_then_else(exists, value, tir.float32(0))
            tir.buffer_store(y, value, [self.output.at(c, h, w)])
