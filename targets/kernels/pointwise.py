"""Operations that look at one pixel: a scale and a shift per channel, sums, activation functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from tvm.tirx.script.builder import ir as tir

from ..table import Target
from .base import Kernel, Workload
from .epilogue import Epilogue
from .layout import BlockedLayout
from .packing import Norm, Packing
from .vector import Lanes


@dataclass(frozen=True)
class Pointwise(Kernel):
    """``epilogue(x)``, or ``epilogue(scale * x + shift)`` with the values of a batch norm, a bias or a multiplier."""

    op: ClassVar[str] = "pointwise"

    affine: bool
    norm: Norm | None
    epilogue: Epilogue
    multiplied: bool = False

    @classmethod
    def make(cls, work: Workload, target: Target) -> Pointwise:  # noqa: ARG003 - one schedule for all targets
        """Return the kernel."""
        affine = bool(work.node.parameters)
        return cls(work.inputs[0], work.output, affine, work.norm, work.epilogue, work.multiplied)

    @property
    def inputs(self) -> tuple[BlockedLayout, ...]:
        """The layouts of what it reads."""
        return (self.input, *self.epilogue.others)

    @property
    def packing(self) -> Packing | None:
        """How its scales and shifts lie in memory."""
        padded = self.output.blocks * self.output.block
        return (
            Packing(self.output.channels, padded, norm=self.norm, multiplied=self.multiplied) if self.affine else None
        )

    def emit(self, lanes: Lanes, sources: Sequence[Any], weights: Any, out: Any) -> None:
        """Emit the loops."""
        self.output.clear_border(lanes, out)
        packing = self.packing
        shape = (self.output.blocks, self.output.height, self.output.width)
        with tir.serial(0, shape[0]) as b, tir.serial(0, shape[1]) as h, tir.serial(0, shape[2]) as w:

            def store(at: Any, splat: Any) -> None:
                value = sources[0][at(self.input.at(b, h, w))]
                if packing is not None:
                    channel = b * self.output.block
                    value = value * weights[at(packing.scales + channel)] + weights[at(packing.shifts + channel)]
                    value = packing.rescale(value, weights, channel, at)
                value = self.epilogue.apply(value, (b, h, w), sources[1:], at, splat)
                tir.buffer_store(out, value, [at(self.output.at(b, h, w))])

            lanes.each(store, self.output.block)
