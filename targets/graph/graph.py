"""The network as a short list of operations on single images: what the kernels are chosen from.

Relax is the common tongue of importers; this is the form in which layers, and not tensors, are the unit: every node has
the dotted name of its layer, the parameters it owns, and the activations it reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

Shape = tuple[int, int, int]


class Op(NamedTuple):
    """One link of a chain: an operation by name, and the constants that it takes."""

    name: str
    numbers: tuple[float, ...] = ()


@dataclass(frozen=True)
class Node:
    """One operation; ``parameters`` maps roles (weight, bias, gamma, beta, mean, variance, multiplier) to state-dict names."""

    kind: str  # conv, dense, pool, pointwise, window
    name: str
    inputs: tuple[str, ...]  # values: the first is the operand, the others belong to ``chain``
    output: str
    shape: Shape  # of the output
    parameters: Mapping[str, str] = field(default_factory=dict)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # of the parameters, by role
    chain: tuple[Op, ...] = ()  # what follows on the value while it is in registers
    settings: Mapping[str, Any] = field(default_factory=dict)

    def changed(self, **changes: Any) -> Node:
        """Return the node with other fields."""
        return replace(self, **changes)


@dataclass(frozen=True)
class Graph:
    """Nodes in order of execution."""

    input: str
    input_shape: Shape
    output: str
    nodes: tuple[Node, ...]

    def readers(self, value: str) -> list[Node]:
        """Return the nodes that read ``value``, once for each time they do."""
        return [node for node in self.nodes for name in node.inputs if name == value]

    def shape_of(self, value: str) -> Shape:
        """Return the shape of a value."""
        if value == self.input:
            return self.input_shape
        return next(node.shape for node in self.nodes if node.output == value)
