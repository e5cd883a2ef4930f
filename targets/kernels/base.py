"""What a kernel is: which nodes it computes, how its parameters are packed, and the loops that it emits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ..graph.graph import Node
from ..table import Target
from .epilogue import Epilogue
from .layout import BlockedLayout
from .packing import Norm, Packing
from .vector import Lanes


@dataclass(frozen=True)
class Workload:
    """A node and the layouts of the tensors it reads and writes: what a kernel is chosen for."""

    node: Node
    inputs: tuple[BlockedLayout, ...]  # of ``node.inputs``
    output: BlockedLayout

    @property
    def norm(self) -> Norm | None:
        """The batch norm that was fused into the node."""
        return Norm(self.node.attrs["epsilon"]) if "gamma" in self.node.parameters else None

    @property
    def multiplied(self) -> bool:
        """Whether the result is multiplied by one factor per channel."""
        return "multiplier" in self.node.parameters

    @property
    def epilogue(self) -> Epilogue:
        """The element-wise operations that were fused into the node."""
        return Epilogue(self.node.epilogue, self.inputs[1:])

    @property
    def attrs(self) -> Mapping[str, Any]:
        """The operator's own attributes, without those of a fused batch norm."""
        return {name: value for name, value in self.node.attrs.items() if name != "epsilon"}


@dataclass(frozen=True)
class Kernel(ABC):
    """One operator on tensors of fixed layouts; a frozen value, so that equal layers share one compiled function.

    A kernel reads blocks of memory as ``input`` (and the epilogue's further operands) describe them and writes
    ``output`` whole: its border and the lanes behind the last channel are zero afterwards.
    """

    op: ClassVar[str]  # the kind of node that it computes
    dtypes: ClassVar[tuple[str, ...]] = ("float32",)  # of the activations and parameters that it takes

    input: BlockedLayout
    output: BlockedLayout

    @classmethod
    def mismatch(cls, work: Workload, target: Target) -> str | None:  # noqa: ARG003 - most kernels run on every target
        """Return why this kernel cannot compute ``work`` on ``target``, or None where it can."""
        if work.node.kind != cls.op:
            return f"{cls.__name__} computes {cls.op}, not {work.node.kind}"
        tensors = (*work.node.inputs, work.node.output, *work.node.parameters.values())
        if other := sorted({tensor.dtype for tensor in tensors} - set(cls.dtypes)):
            return f"{cls.__name__} computes {', '.join(cls.dtypes)}, not {', '.join(other)}"
        return None

    @classmethod
    @abstractmethod
    def make(cls, work: Workload, target: Target) -> Kernel:
        """Return the kernel for ``work``, which it matches, with the schedule that suits ``target``."""

    @abstractmethod
    def emit(self, lanes: Lanes, sources: Sequence[Any], weights: Any, out: Any) -> None:
        """Emit the loops over flat buffers: one for each of ``inputs``, the packed parameters, and the output."""

    @property
    def inputs(self) -> tuple[BlockedLayout, ...]:
        """The layouts of what it reads: the operand, then the further operands of the epilogue."""
        return (self.input,)

    @property
    def packing(self) -> Packing | None:
        """How its parameters lie in memory; None where it has none."""
        return None

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image, without those on padded channels."""
        return 0
