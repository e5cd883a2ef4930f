"""Vector statements written once: as ramps and broadcasts, or as short loops that a C compiler vectorises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx
from tvm.tirx.script.builder import ir as tir

from ..table import Target

Index = Callable[[Any], Any]  # from the index of the first lane to the index of all lanes
FLOAT = "float32"
CACHE_LINE = 16  # floats


@dataclass(frozen=True)
class Lanes:
    """``count`` neighbouring floats that are computed together, in one of ``registers`` vector registers."""

    count: int
    registers: int
    vectors: bool = True

    @classmethod
    def of(cls, target: Target) -> Lanes:
        """Return the vector registers of a target."""
        return cls(target.lanes, target.registers, target.vectors)

    def each(self, body: Callable[[Index, Index], None], count: int | None = None) -> None:
        """Emit ``body(at, splat)`` for ``count`` neighbours.

        ``at`` turns the index of the first lane into the index of all, ``splat`` a number into one for every lane.
        """
        count = self.count if count is None else count
        if count == 1:
            body(lambda base: base, self.number)
        elif self.vectors and count & (count - 1) == 0:
            body(lambda base: tir.ramp(base, 1, count), lambda value: tir.broadcast(self.number(value), count))
        else:
            with tir.serial(0, count) as lane:
                body(lambda base: base + lane, self.number)

    def number(self, value: Any) -> Any:
        """Return an expression as it is, and a Python number as the float32 constant that the target computes with.

        TVM writes C constants with seven digits, which is not every number: the rest is added by the C compiler. The
        call, which compilers compute, keeps TVM from adding it first.
        """
        if not isinstance(value, float | int):
            return value
        exact = np.float32(value)
        written = np.float32(f"{exact:e}")
        if self.vectors or written == exact:
            return tir.float32(float(exact))
        return tirx.ldexp(tir.float32(float(written)), tir.int32(0)) + tir.float32(float(exact - written))

    def sums(self, size: int) -> Any:
        """Return a small buffer that the compiler keeps in registers."""
        return tir.alloc_buffer((size,), FLOAT, scope="local" if self.vectors else "global")

    def prefetch(self, buffer: Any, index: Any, count: int) -> None:
        """Emit hints that ``count`` floats from ``buffer[index]`` on, whole cache lines, are wanted soon."""
        if self.vectors:
            for line in range(0, count, CACHE_LINE):
                address = tirx.address_of(buffer[index + line])
                read, second_level, data = (tirx.const(value, "int32") for value in (0, 2, 1))
                tir.evaluate(tirx.call_llvm_intrin("void", "llvm.prefetch", address, read, second_level, data))

    def fill(self, buffer: Any, base: Any, value: float, count: int | None = None) -> None:
        """Emit a store of one constant into ``count`` neighbours."""
        self.each(lambda at, splat: tir.buffer_store(buffer, splat(tir.float32(value)), [at(base)]), count)


def copy(lanes: Lanes, destination: tuple[Any, Any], source: tuple[Any, Any]) -> None:
    """Emit ``destination = source`` for one vector; both are a buffer and the index of the first lane."""
    (y, place), (x, origin) = destination, source
    lanes.each(lambda at, _: tir.buffer_store(y, x[at(origin)], [at(place)]))


def multiply_add(lanes: Lanes, sums: Any, spot: int, pixel: Any, weights: Any, place: Any) -> None:
    """Emit ``sums += pixel * weights`` for one vector; the pixel is a number."""
    lanes.each(lambda at, splat: tir.buffer_store(sums, sums[at(spot)] + splat(pixel) * weights[at(place)], [at(spot)]))
