"""Operations that look at one pixel: a scale and a shift per channel, sums, activation functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm.tirx.script.builder import ir as T

from ..grids import Grid
from .epilogue import Epilogue
from .lanes import Lanes
from .packing import Norm, scale_of, scaled_bias


@dataclass(frozen=True)
class Pointwise:
    """``epilogue(x)``, or ``epilogue(scale * x + shift)`` with the values of a batch norm or a bias."""

    source: Grid
    target: Grid
    bias: bool
    norm: Norm | None
    epilogue: Epilogue
    macs: int = 0

    @property
    def inputs(self) -> tuple[Grid, ...]:
        """The grids it reads."""
        return (self.source, *self.epilogue.others)

    @property
    def affine(self) -> bool:
        """Whether there is a scale and a shift."""
        return self.bias or self.norm is not None

    @property
    def packed(self) -> int:
        """Floats of scales and shifts."""
        return 2 * self.target.blocks * self.target.block if self.affine else 0

    def body(self, lanes: Lanes, sources: Sequence[Any], weights: Any, target: Any) -> None:
        """Emit the loops."""
        self.target.clear_border(lanes, target)
        shifts = self.target.blocks * self.target.block
        grid = (self.target.blocks, self.target.height, self.target.width)
        with T.serial(0, grid[0]) as b, T.serial(0, grid[1]) as h, T.serial(0, grid[2]) as w:

            def store(at: Any, splat: Any) -> None:
                value = sources[0][at(self.source.at(b, h, w))]
                if self.affine:
                    channel = b * self.target.block
                    value = value * weights[at(channel)] + weights[at(shifts + channel)]
                value = self.epilogue.apply(value, (b, h, w), sources[1:], at, splat)
                T.buffer_store(target, value, [at(self.target.at(b, h, w))])

            lanes.each(store, self.target.block)

    def pack(self, lanes: Lanes, raw: Sequence[Any], packed: Any) -> None:  # noqa: ARG002
        """Emit the loops that write scales and shifts; there is no weight, so ``raw`` starts with bias or norm."""
        if not self.affine:
            return
        raw = (None, *raw)
        shifts = self.target.blocks * self.target.block
        with T.serial(0, shifts) as channel:
            with T.If(channel < self.target.channels):
                with T.Then():
                    T.buffer_store(packed, scale_of(self.norm, self.bias, raw, channel), [channel])
                with T.Else():
                    T.buffer_store(packed, T.float32(0), [channel])
        scaled_bias(self.norm, self.bias, raw, packed, self.target, shifts)
