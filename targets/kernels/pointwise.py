"""Operations that look at one pixel: a scale and a shift per channel, sums, activation functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm.tirx.script.builder import ir as tir

from .epilogue import Epilogue
from .layout import Grid
from .packing import Norm, Packing
from .vector import Lanes


@dataclass(frozen=True)
class Pointwise:
    """``epilogue(x)``, or ``epilogue(scale * x + shift)`` with the values of a batch norm, a bias or a multiplier."""

    source: Grid
    target: Grid
    affine: bool
    norm: Norm | None
    epilogue: Epilogue
    multiplied: bool = False
    macs: int = 0

    @property
    def inputs(self) -> tuple[Grid, ...]:
        """The grids it reads."""
        return (self.source, *self.epilogue.others)

    @property
    def packing(self) -> Packing | None:
        """How its scales and shifts lie in memory."""
        padded = self.target.blocks * self.target.block
        return (
            Packing(self.target.channels, padded, norm=self.norm, multiplied=self.multiplied) if self.affine else None
        )

    def body(self, lanes: Lanes, sources: Sequence[Any], weights: Any, target: Any) -> None:
        """Emit the loops."""
        self.target.clear_border(lanes, target)
        packing = self.packing
        grid = (self.target.blocks, self.target.height, self.target.width)
        with tir.serial(0, grid[0]) as b, tir.serial(0, grid[1]) as h, tir.serial(0, grid[2]) as w:

            def store(at: Any, splat: Any) -> None:
                value = sources[0][at(self.source.at(b, h, w))]
                if packing is not None:
                    channel = b * self.target.block
                    value = value * weights[at(packing.scales + channel)] + weights[at(packing.shifts + channel)]
                    value = packing.complete(value, weights, channel, at)
                value = self.epilogue.apply(value, (b, h, w), sources[1:], at, splat)
                tir.buffer_store(target, value, [at(self.target.at(b, h, w))])

            lanes.each(store, self.target.block)
