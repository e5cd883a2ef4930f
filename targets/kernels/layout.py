"""How an activation lies in memory: TVM's NCHWc, channels in blocks of one vector register, rows with a border of zeros.

A blocked activation is ``[channel block][row][column][lane]``. The border is as wide as the widest padding among the
readers, so that no convolution tests for edges; whoever writes an activation also writes its border and the lanes behind
its last channel, both zero, which lets activations share memory freely.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tvm.tirx.script.builder import ir as tir

from ..abi import itemsize

Expr = Any  # an int or a TIR expression


@dataclass(frozen=True)
class BlockedLayout:
    """The layout of one image's activation; a vector is an image of 1 x 1 pixels, block 1 without a border is plain CHW."""

    channels: int
    height: int
    width: int
    block: int = 1
    border: tuple[int, int] = (0, 0)  # rows above and below, columns left and right
    dtype: str = "float32"

    @classmethod
    def of(
        cls, shape: tuple[int, ...], dtype: str = "float32", block: int = 1, border: tuple[int, int] = (0, 0)
    ) -> BlockedLayout:
        """Return the layout of an activation of ``shape`` (C, H, W)."""
        channels, height, width = shape
        return cls(channels, height, width, block, border, dtype)

    @property
    def blocks(self) -> int:
        """Channel blocks, the last one possibly not full."""
        return -(-self.channels // self.block)

    @property
    def rows(self) -> int:
        """Rows with border."""
        return self.height + 2 * self.border[0]

    @property
    def columns(self) -> int:
        """Columns with border."""
        return self.width + 2 * self.border[1]

    @property
    def size(self) -> int:
        """Elements in memory."""
        return self.blocks * self.rows * self.columns * self.block

    @property
    def size_bytes(self) -> int:
        """Bytes in memory."""
        return self.size * itemsize(self.dtype)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return (self.channels, self.height, self.width)

    def at(self, block: Expr, row: Expr, column: Expr, lane: Expr = 0) -> Expr:
        """Return the place of a pixel, counted from the first one inside the border."""
        above, left = self.border
        return ((block * self.rows + row + above) * self.columns + column + left) * self.block + lane

    def filled(self, block: int) -> int:
        """Return how many lanes of a channel block carry channels."""
        return min(self.block, self.channels - block * self.block)

    def clear_border(self, lanes: Any, buffer: Any) -> None:
        """Emit the stores that make the border zero."""
        above, left = self.border
        strips = ((-above, above, -left, self.columns), (self.height, above, -left, self.columns))
        strips += ((0, self.height, -left, left), (0, self.height, self.width, left))
        for row, rows, column, columns in strips:
            if rows and columns:
                with tir.serial(0, self.blocks) as b, tir.serial(0, rows) as r, tir.serial(0, columns) as c:
                    place = self.at(b, row + r, column + c)
                    lanes.fill(buffer, place, 0.0, self.block)


def chunks(total: int, size: int) -> Iterator[tuple[int, int, int]]:
    """Yield (start, count, extent): ``count`` pieces of ``extent`` that cover ``total``, then the piece that is left.

    >>> list(chunks(27, 14))
    [(0, 1, 14), (14, 1, 13)]
    """
    if total >= size:
        yield 0, total // size, size
    if total % size:
        yield total - total % size, 1, total % size
