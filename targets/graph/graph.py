"""The network as a list of operators on single images: what kernels are chosen for.

Here layers, and not tensor expressions, are the unit: every node has the dotted name of its torch module, the parameters
that the module owns, and the activations it reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Tensor:
    """A value by name: an activation, of shape (C, H, W) and without a batch, or a parameter of the model file."""

    name: str
    dtype: str  # as numpy and TVM spell it: float32
    shape: tuple[int, ...]


class Op(NamedTuple):
    """One element-wise operation of an epilogue, and the constants that it takes."""

    name: str
    constants: tuple[float, ...] = ()


@dataclass(frozen=True)
class Node:
    """One operator; ``parameters`` maps roles (see ``abi.ROLES``) to tensors of the model file."""

    kind: str  # conv, dense, pool, pointwise, copy
    name: str
    inputs: tuple[Tensor, ...]  # the operand, then the second operands of ``epilogue`` in its order
    output: Tensor
    parameters: Mapping[str, Tensor] = field(default_factory=dict)
    epilogue: tuple[Op, ...] = ()  # element-wise operations on the result while it is in registers
    attrs: Mapping[str, Any] = field(default_factory=dict)

    def changed(self, **changes: Any) -> Node:
        """Return the node with other fields."""
        return replace(self, **changes)


@dataclass(frozen=True)
class Graph:
    """Nodes in order of execution."""

    input: Tensor
    output: Tensor
    nodes: tuple[Node, ...]
    sources: Mapping[str, str] = field(default_factory=dict)  # activation -> torch's operator that gives it
    layers: Mapping[str, str] = field(default_factory=dict)  # torch's operator -> the user's layer that calls it

    def readers(self, tensor: Tensor) -> list[Node]:
        """Return the nodes that read ``tensor``, once for each time they do."""
        return [node for node in self.nodes for read in node.inputs if read == tensor]

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The activations in order: the input, then every node's output."""
        return (self.input, *(node.output for node in self.nodes))
