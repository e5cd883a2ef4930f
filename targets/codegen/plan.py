"""Graph to program: a layout for every activation, a kernel for every node, a place in memory for both.

The memory plan is static: activations share one workspace whose size is known before anything runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..abi import ALIGNMENT, IMAGE, OUTPUTS, PARAMETERS, itemsize
from ..graph.graph import Graph, Node, Tensor
from ..kernels.base import Kernel, Workload
from ..kernels.choose import choose
from ..kernels.copy import StridedCopy
from ..kernels.layout import BlockedLayout
from ..table import Target
from .memory import Buffer, plan_memory


@dataclass(frozen=True)
class KernelCall:
    """One step: tensors are places in the workspace, or the caller's image and outputs."""

    name: str
    kernel: Kernel
    inputs: tuple[Tensor, ...]
    output: Tensor
    parameters: Mapping[str, Tensor] = field(default_factory=dict)  # by role, as the model file has them
    offset: int = 0  # of the packed parameters, in floats


@dataclass(frozen=True)
class Plan:
    """Everything the program generator needs."""

    steps: tuple[KernelCall, ...]
    offsets: Mapping[str, int]  # of activations in the workspace, in bytes
    workspace_bytes: int
    packed: int  # floats of packed parameters
    input: BlockedLayout
    output: BlockedLayout


def plan(graph: Graph, target: Target) -> Plan:
    """Return the steps that compute ``graph``, with kernels for ``target``.

    Raises:
        TargetError: an operator without a kernel.
    """
    layouts = assign_layouts(graph, target.lanes)
    image = BlockedLayout.of(graph.input.shape, graph.input.dtype)
    load = Tensor(IMAGE.name, graph.input.dtype, graph.input.shape)
    steps: list[KernelCall] = []
    offset = 0
    caller = {graph.input: load}  # kernels that need no border and no blocks read the caller's image itself
    if layouts[graph.input] != image:
        steps.append(KernelCall("load", StridedCopy(image, layouts[graph.input]), (load,), graph.input))
        caller = {}
    for node, label in zip(graph.nodes, _labels(graph), strict=True):
        reads = tuple(layouts[tensor] for tensor in node.inputs)
        kernel = choose(Workload(node, reads, layouts[node.output]), target)
        inputs = tuple(caller.get(tensor, tensor) for tensor in node.inputs)
        steps.append(KernelCall(label, kernel, inputs, node.output, node.parameters, offset))
        offset += _aligned(kernel.packing.size) if kernel.packing else 0
    result = layouts[graph.output]
    flat = result.size == result.blocks * result.block  # a vector lies in memory as its channels do
    source = BlockedLayout.of((result.channels, 1, 1), result.dtype) if flat else result
    store = StridedCopy(source, BlockedLayout.of(result.shape, result.dtype))
    outputs = Tensor(OUTPUTS.name, graph.output.dtype, graph.output.shape)
    steps.append(KernelCall("store", store, (caller.get(graph.output, graph.output),), outputs))
    memory = plan_memory(_buffers(steps, layouts), ALIGNMENT)
    return Plan(tuple(steps), memory.offsets, memory.size_bytes or ALIGNMENT, offset, image, store.output)


def _aligned(floats: int) -> int:
    size = ALIGNMENT // itemsize(PARAMETERS.dtype)
    return -(-floats // size) * size


def _labels(graph: Graph) -> list[str]:
    """Return a name of its own for every node: layers that are used twice are numbered."""
    seen: dict[str, int] = {}
    labels = []
    for node in graph.nodes:
        seen[node.name] = seen.get(node.name, 0) + 1
        labels.append(node.name if seen[node.name] == 1 else f"{node.name}#{seen[node.name]}")
    return labels


def assign_layouts(graph: Graph, lanes: int) -> dict[Tensor, BlockedLayout]:
    """Return a layout for every activation.

    Blocked wherever vectors are loaded; borders as wide as the widest padding among the convolutions that read.
    """
    planar = {graph.input} if _read_as_scalars(graph, graph.input) else set()
    for node in graph.nodes:
        if _keeps_layout(node) and node.inputs[0] in planar:
            planar.add(node.output)
    layouts = {}
    for tensor in graph.tensors:
        paddings = [n.attrs["padding"] for n in graph.nodes if n.kind == "conv" and n.inputs[0] == tensor]
        border = (max((p[0] for p in paddings), default=0), max((p[1] for p in paddings), default=0))
        block = 1 if tensor in planar else lanes
        layouts[tensor] = BlockedLayout.of(tensor.shape, tensor.dtype, block, border)
    return layouts


def _read_as_scalars(graph: Graph, tensor: Tensor) -> bool:
    """Tell whether all readers take a tensor's elements one at a time, so that it may stay plain CHW as the image is."""
    return all(
        tensor not in node.inputs[1:]
        and (node.kind in ("conv", "dense") or (_keeps_layout(node) and _read_as_scalars(graph, node.output)))
        for node in graph.readers(tensor)
    )


def _keeps_layout(node: Node) -> bool:
    return node.kind == "pointwise" and len(node.inputs) == 1 and not node.parameters


def _buffers(steps: list[KernelCall], layouts: Mapping[Tensor, BlockedLayout]) -> dict[str, Buffer]:
    """Return size and lifetime of every activation in the workspace."""
    spans: dict[Tensor, tuple[int, int]] = {}
    for number, step in enumerate(steps):
        for tensor in (*step.inputs, step.output):
            if tensor in layouts:
                spans[tensor] = (spans.get(tensor, (number, number))[0], number)
    return {tensor.name: Buffer(layouts[tensor].size_bytes, *span) for tensor, span in spans.items()}
