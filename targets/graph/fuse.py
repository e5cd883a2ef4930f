"""Operator fusion: biases, batch norms, multipliers, sums and activation functions join the layer that made their operand."""

from __future__ import annotations

from dataclasses import replace

from .graph import Graph, Node

PRODUCERS = ("conv", "dense", "pool", "pointwise")  # whose kernels have an epilogue
COMMUTATIVE = ("add", "multiply")


def fuse(graph: Graph) -> Graph:
    """Return the graph after every possible fusion; values are the same up to rounding."""
    done: list[Node] = []
    for node in graph.nodes:
        producer = _producer(graph, done, node)
        if producer is None:
            done.append(node)
            continue
        done.remove(producer)  # it moves to where its last operand exists; nobody else reads it
        done.append(_fused(producer, node))
    return replace(graph, nodes=tuple(done))


def _producer(graph: Graph, done: list[Node], node: Node) -> Node | None:
    """Return the node among those ``done`` that ``node`` can be fused into."""
    operands = node.inputs if node.epilogue and node.epilogue[0].name in COMMUTATIVE else node.inputs[:1]
    makers = [maker for tensor in operands for maker in done if maker.output == tensor]
    alone = [maker for maker in makers if len(graph.readers(maker.output)) == 1 and maker.output != graph.output]
    for maker in sorted(alone, key=lambda maker: maker.kind == "pointwise"):
        if _can_fuse(maker, node):
            return maker
    return None


def _can_fuse(producer: Node, node: Node) -> bool:
    if node.kind == producer.kind == "copy":
        return all(_composable(producer, node, axis) for axis in range(3))
    if node.kind != "pointwise" or producer.kind not in PRODUCERS:
        return False
    if not node.parameters:
        return True
    if (
        producer.kind not in ("conv", "dense")
        or producer.epilogue
        or {"gamma", "multiplier"} & set(producer.parameters)
    ):
        return False
    return "bias" not in node.parameters or "bias" not in producer.parameters


def _fused(producer: Node, node: Node) -> Node:
    if node.kind == "copy":
        (c0, h0, w0), (sh, sw) = producer.attrs["offset"], producer.attrs["step"]
        (c1, h1, w1), (th, tw) = node.attrs["offset"], node.attrs["step"]
        attrs = {"offset": (c0 + c1, h0 + sh * h1, w0 + sw * w1), "step": (sh * th, sw * tw)}
        return producer.changed(output=node.output, attrs=attrs)
    others = tuple(tensor for tensor in node.inputs if tensor != producer.output)
    return producer.changed(
        inputs=(*producer.inputs, *others),
        output=node.output,
        parameters={**producer.parameters, **node.parameters},
        epilogue=producer.epilogue + node.epilogue,
        attrs={**producer.attrs, **node.attrs},
    )


def _composable(first: Node, second: Node, axis: int) -> bool:
    """Tell whether two copies are one: what the second reads as padding must not be an element that the first cut off."""
    size, between = first.inputs[0].shape[axis], first.output.shape[axis]
    (start, step), (origin, stride) = _line(first, axis), _line(second, axis)
    for place in range(origin, origin + stride * second.output.shape[axis], stride):
        if 0 <= start + step * place < size and not 0 <= place < between:
            return False
    return True


def _line(copy: Node, axis: int) -> tuple[int, int]:
    """Return offset and step along one axis."""
    return copy.attrs["offset"][axis], (1, *copy.attrs["step"])[axis]
