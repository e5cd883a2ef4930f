"""Epilogues: what is done to a result while it is still in registers, sums with other activations and activation functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script.builder import ir as tir

from ..graph.graph import Op
from .layout import BlockedLayout
from .vector import Index

UNARY: dict[str, Callable[..., Any]] = {  # of a value, a function that broadcasts, and the operation's constants
    "relu": lambda value, splat: tir.max(value, splat(0)),
    "relu6": lambda value, splat: tir.min(tir.max(value, splat(0)), splat(6)),
    "leaky_relu": lambda value, splat, slope: tir.max(value, splat(0)) + splat(slope) * tir.min(value, splat(0)),
    "tanh": lambda value, splat: tirx.tanh(value),  # noqa: ARG005
    "sigmoid": lambda value, splat: splat(1) / (splat(1) + tirx.exp(splat(0) - value)),
    "sqrt": lambda value, splat: tirx.sqrt(value),  # noqa: ARG005
    "exp": lambda value, splat: tirx.exp(value),  # noqa: ARG005
    "abs": lambda value, splat: tirx.abs(value),  # noqa: ARG005
    "round": lambda value, splat: tirx.nearbyint(value),  # noqa: ARG005 - ties to even
    "scale": lambda value, splat, factor: value * splat(factor),
    "shift": lambda value, splat, summand: value + splat(summand),
    "clamp": lambda value, splat, low, high: tir.min(tir.max(value, splat(low)), splat(high)),
    "negative": lambda value, splat: splat(0) - value,
}
BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda value, other: value + other,
    "subtract": lambda value, other: value - other,
    "multiply": lambda value, other: value * other,
}


@dataclass(frozen=True)
class Epilogue:
    """Element-wise operations in their order; each binary one takes the next of ``others``, activations of the same shape."""

    ops: tuple[Op, ...] = ()
    others: tuple[BlockedLayout, ...] = ()

    def apply(self, value: Any, place: tuple[Any, Any, Any], others: Sequence[Any], at: Index, splat: Index) -> Any:
        """Return the expression of ``value`` after the operations, at channel block, row and column ``place``."""
        pending = list(zip(self.others, others, strict=True))
        for name, constants in self.ops:
            if name in UNARY:
                value = UNARY[name](value, splat, *constants)
            else:
                layout, buffer = pending.pop(0)
                value = BINARY[name](value, buffer[at(layout.at(*place))])
        return value
