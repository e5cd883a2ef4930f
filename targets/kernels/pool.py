"""Pooling on blocked layouts, a vector of channels at a time; only windows that touch an edge test for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from tvm.tirx.script.builder import ir as tir

from ..table import Target
from .base import Kernel, Workload
from .epilogue import Epilogue
from .layout import BlockedLayout
from .vector import FLOAT, Lanes

LOWEST = -3.4028234663852886e38


@dataclass(frozen=True)
class Pool(Kernel):
    """Maximum or average over windows, with torch's rules for padding, ``ceil_mode`` and divisors."""

    op: ClassVar[str] = "pool"

    kind: str  # "max" or "avg"
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    count_padding: bool
    epilogue: Epilogue

    @classmethod
    def make(cls, work: Workload, target: Target) -> Pool:  # noqa: ARG003 - one schedule for all targets
        """Return the kernel."""
        return cls(work.inputs[0], work.output, **work.attrs, epilogue=work.epilogue)

    @property
    def inputs(self) -> tuple[BlockedLayout, ...]:
        """The layouts of what it reads."""
        return (self.input, *self.epilogue.others)

    def emit(self, lanes: Lanes, sources: Sequence[Any], weights: Any, out: Any) -> None:  # noqa: ARG002
        """Emit the loops."""
        self.output.clear_border(lanes, out)
        sums = lanes.sums(lanes.count)
        for rows, row_inside in self._ranges(0):
            for columns, column_inside in self._ranges(1):
                with (
                    tir.serial(0, self.output.blocks) as b,
                    tir.serial(0, len(rows)) as i,
                    tir.serial(0, len(columns)) as j,
                ):
                    place = (b, rows[0] + i, columns[0] + j)
                    self._window(lanes, place, sources, sums, out, inside=row_inside and column_inside)

    def _ranges(self, axis: int) -> list[tuple[range, bool]]:
        """Split the output positions of one axis into those whose windows lie inside and those that touch an edge."""
        size, outputs = self.input.shape[1 + axis], self.output.shape[1 + axis]
        stride, reach = self.stride[axis], (self.kernel[axis] - 1) * self.dilation[axis]
        inside = [
            o * stride - self.padding[axis] >= 0 and o * stride - self.padding[axis] + reach < size
            for o in range(outputs)
        ]
        if not any(inside):
            return [(range(outputs), False)]
        first, last = inside.index(True), outputs - inside[::-1].index(True)
        parts = [(range(first), False), (range(first, last), True), (range(last, outputs), False)]
        return [(positions, whole) for positions, whole in parts if positions]

    def _window(
        self, lanes: Lanes, place: tuple[Any, Any, Any], sources: Sequence[Any], sums: Any, y: Any, *, inside: bool
    ) -> None:
        b, row, column = place
        top, left = row * self.stride[0] - self.padding[0], column * self.stride[1] - self.padding[1]
        lanes.fill(sums, 0, LOWEST if self.kind == "max" else 0.0)
        with tir.serial(0, self.kernel[0]) as kh, tir.serial(0, self.kernel[1]) as kw:
            h, w = top + kh * self.dilation[0], left + kw * self.dilation[1]
            if inside:
                self._accumulate(lanes, sources[0], self.input.at(b, h, w), sums)
            else:
                within = (h >= 0) & (h < self.input.height) & (w >= 0) & (w < self.input.width)
                with tir.If(within), tir.Then():
                    self._accumulate(lanes, sources[0], self.input.at(b, h, w), sums)

        def store(at: Any, splat: Any) -> None:
            value = sums[at(0)]
            if self.kind == "avg":
                value = value / splat(self.kernel[0] * self.kernel[1] if inside else self._divisor(top, left))
            value = self.epilogue.apply(value, place, sources[1:], at, splat)
            tir.buffer_store(y, value, [at(self.output.at(*place))])

        lanes.each(store)

    def _accumulate(self, lanes: Lanes, x: Any, place: Any, sums: Any) -> None:
        def step(at: Any, _: Any) -> None:
            value = tir.max(sums[at(0)], x[at(place)]) if self.kind == "max" else sums[at(0)] + x[at(place)]
            tir.buffer_store(sums, value, [at(0)])

        lanes.each(step)

    def _divisor(self, top: Any, left: Any) -> Any:
        """Return the number of pixels that a window at an edge counts."""
        sides = []
        for axis, start in enumerate((top, left)):
            size, pad = self.input.shape[1 + axis], self.padding[axis]
            low, high = (-pad, size + pad) if self.count_padding else (0, size)
            end = tir.min(start + self.kernel[axis], high)
            sides.append(end - (start if self.count_padding else tir.max(start, low)))
        return tir.cast(sides[0] * sides[1], FLOAT)
