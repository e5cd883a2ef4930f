"""Graph to steps: a kernel for every node, a layout for every activation, a place for both in memory.

The memory plan is static: activations share one workspace whose size is known before anything runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from ...core.errors import TargetError
from ..graph.graph import Graph, Node
from ..kernels.conv import Conv, choose_tile
from ..kernels.copy import Window
from ..kernels.dense import Dense
from ..kernels.epilogue import Epilogue
from ..kernels.grouped import GroupedConv
from ..kernels.layout import Grid
from ..kernels.packing import Norm, Packing
from ..kernels.pointwise import Pointwise
from ..kernels.pool import Pool
from ..kernels.vector import Lanes

ALIGN = 16  # floats: one cache line
IMAGE, OUTPUTS = "image", "outputs"  # the two values that live with the caller


class Kernel(Protocol):
    """Loops over blocked grids; a frozen value, so that equal layers share one compiled function."""

    source: Grid
    target: Grid

    @property
    def inputs(self) -> tuple[Grid, ...]: ...  # noqa: D102
    @property
    def packing(self) -> Packing | None: ...  # noqa: D102
    @property
    def macs(self) -> int: ...  # noqa: D102
    def body(self, lanes: Lanes, sources: Any, weights: Any, target: Any) -> None: ...  # noqa: D102


@dataclass(frozen=True)
class KernelCall:
    """One call: values are places in the workspace, or the caller's image and outputs."""

    name: str
    kind: str
    kernel: Any
    inputs: tuple[str, ...]
    output: str
    parameters: tuple[tuple[str, str, tuple[int, ...]], ...]  # (role, state-dict name, shape)
    offset: int  # of the packed parameters, in floats


@dataclass(frozen=True)
class Plan:
    """Everything the program generator needs."""

    steps: tuple[KernelCall, ...]
    places: dict[str, int]  # value -> offset in the workspace, in floats
    workspace: int  # floats
    packed: int  # floats
    input: Grid
    output: Grid


def plan(graph: Graph, lanes: Lanes) -> Plan:
    """Return the steps that compute ``graph``, with kernels for ``lanes``.

    Raises:
        TargetError: an operation that no kernel covers.
    """
    grids = _grids(graph, lanes)
    image = Grid(*graph.input_shape)
    steps: list[KernelCall] = []
    offset = 0
    caller = {graph.input: IMAGE}  # kernels that need no border and no blocks read the caller's image itself
    if grids[graph.input] != image:
        steps.append(KernelCall("load", "window", Window(image, grids[graph.input]), (IMAGE,), graph.input, (), 0))
        caller = {}
    for node, label in zip(graph.nodes, _labels(graph), strict=True):
        kernel = _kernel(node, grids, lanes)
        parameters = tuple((role, name, node.shapes[role]) for role, name in node.parameters.items())
        inputs = tuple(caller.get(name, name) for name in node.inputs)
        steps.append(KernelCall(label, node.kind, kernel, inputs, node.output, parameters, offset))
        offset += -(-kernel.packing.size // ALIGN) * ALIGN if kernel.packing else 0
    result = grids[graph.output]
    source = Grid(result.channels, 1, 1) if result.size == result.blocks * result.block else result
    store = Window(source, Grid(*result.shape))
    steps.append(KernelCall("store", "window", store, (caller.get(graph.output, graph.output),), OUTPUTS, (), 0))
    places, workspace = _place(steps, grids)
    return Plan(tuple(steps), places, workspace, offset, image, Grid(*result.shape))


def _labels(graph: Graph) -> list[str]:
    """Return a name of its own for every node: layers that are used twice are numbered."""
    seen: dict[str, int] = {}
    labels = []
    for node in graph.nodes:
        seen[node.name] = seen.get(node.name, 0) + 1
        labels.append(node.name if seen[node.name] == 1 else f"{node.name}#{seen[node.name]}")
    return labels


def _grids(graph: Graph, lanes: Lanes) -> dict[str, Grid]:
    """Blocked wherever vectors are loaded; borders as wide as the widest padding among the convolutions that read."""
    grids: dict[str, Grid] = {}
    planar = {graph.input} if _by_number(graph, graph.input) else set()
    for node in graph.nodes:
        if _keeps_layout(node) and node.inputs[0] in planar:
            planar.add(node.output)
    for name, shape in [(graph.input, graph.input_shape), *((node.output, node.shape) for node in graph.nodes)]:
        paddings = [node.settings["padding"] for node in graph.nodes if node.kind == "conv" and node.inputs[0] == name]
        border = (max((p[0] for p in paddings), default=0), max((p[1] for p in paddings), default=0))
        grids[name] = Grid(*shape, 1 if name in planar else lanes.count, border)
    return grids


def _by_number(graph: Graph, name: str) -> bool:
    """Tell whether all readers take a value's numbers one at a time, so that it may stay as the image lies in memory."""
    return all(
        name not in node.inputs[1:]
        and (node.kind in ("conv", "dense") or (_keeps_layout(node) and _by_number(graph, node.output)))
        for node in graph.readers(name)
    )


def _keeps_layout(node: Node) -> bool:
    return node.kind == "pointwise" and len(node.inputs) == 1 and not node.parameters


def _kernel(node: Node, grids: dict[str, Grid], lanes: Lanes) -> Any:
    source, target = grids[node.inputs[0]], grids[node.output]
    epilogue = Epilogue(node.chain, tuple(grids[name] for name in node.inputs[1:]))
    settings = dict(node.settings)
    norm = Norm(settings.pop("epsilon")) if "gamma" in node.parameters else None
    common: dict[str, Any] = {"norm": norm, "epilogue": epilogue, "multiplied": "multiplier" in node.parameters}
    if node.kind == "conv":
        return _conv(source, target, settings, common, lanes)
    if node.kind == "dense":
        return Dense(source, target, **common)
    if node.kind == "pool":
        return Pool(source, target, epilogue=epilogue, **settings)
    if node.kind == "pointwise":
        return Pointwise(source, target, bool(node.parameters), **common)
    if node.kind == "window":
        return Window(source, target, settings["offset"], settings["step"])
    raise TargetError(f"{node.name}: no kernel for {node.kind}")


def _conv(source: Grid, target: Grid, settings: dict[str, Any], common: dict[str, Any], lanes: Lanes) -> Any:
    groups = settings["groups"]
    whole = all(grid.channels // groups % grid.block == 0 for grid in (source, target))
    if groups > 1 and not whole:
        return GroupedConv(source, target, **common, **settings)
    tile = choose_tile(target.height, target.width, target.blocks // groups, lanes.registers)
    return Conv(source, target, tile=tile, **common, **settings)


def _place(steps: list[KernelCall], grids: dict[str, Grid]) -> tuple[dict[str, int], int]:
    """Give every activation an offset; those alive at the same time do not overlap. Large ones choose first."""
    spans: dict[str, tuple[int, int]] = {}
    for number, step in enumerate(steps):
        for name in (*step.inputs, step.output):
            if name not in (IMAGE, OUTPUTS):
                spans[name] = (spans.get(name, (number, number))[0], number)
    places: dict[str, int] = {}
    for name in sorted(spans, key=lambda name: (-grids[name].size, spans[name])):
        first, last = spans[name]
        busy = sorted(
            (places[other], places[other] + grids[other].size)
            for other in places
            if spans[other][0] <= last and first <= spans[other][1]
        )
        start = 0
        for low, high in busy:
            if start + grids[name].size <= low:
                break
            start = max(start, -(-high // ALIGN) * ALIGN)
        places[name] = start
    return places, max((places[name] + grids[name].size for name in places), default=ALIGN)
