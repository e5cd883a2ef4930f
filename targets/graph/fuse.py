"""Fewer, larger nodes: biases, batch norms, multipliers, sums and activation functions join the layer that computed their operand."""

from __future__ import annotations

from .graph import Graph, Node

HOSTS = ("conv", "dense", "pool", "pointwise")
COMMUTATIVE = ("add", "multiply")


def fuse(graph: Graph) -> Graph:
    """Return the graph after every possible fusion; values are the same up to rounding."""
    done: list[Node] = []
    for node in graph.nodes:
        host = _host(graph, done, node)
        if host is None:
            done.append(node)
            continue
        done.remove(host)  # it moves to where its last operand exists; nobody else reads it
        done.append(_joined(host, node))
    return Graph(graph.input, graph.input_shape, graph.output, tuple(done))


def _host(graph: Graph, done: list[Node], node: Node) -> Node | None:
    """Return the finished node that can take ``node`` in."""
    operands = node.inputs if node.chain and node.chain[0].name in COMMUTATIVE else node.inputs[:1]
    makers = [maker for name in operands for maker in done if maker.output == name]
    alone = [maker for maker in makers if len(graph.readers(maker.output)) == 1 and maker.output != graph.output]
    for maker in sorted(alone, key=lambda maker: maker.kind == "pointwise"):
        if _joins(maker, node):
            return maker
    return None


def _joins(host: Node, node: Node) -> bool:
    if node.kind == host.kind == "window":
        return all(_nests(host, node, axis) for axis in range(3))
    if node.kind != "pointwise" or host.kind not in HOSTS:
        return False
    if not node.parameters:
        return True
    if host.kind not in ("conv", "dense") or host.chain or {"gamma", "multiplier"} & set(host.parameters):
        return False
    return "bias" not in node.parameters or "bias" not in host.parameters


def _joined(host: Node, node: Node) -> Node:
    if node.kind == "window":
        (c0, h0, w0), (sh, sw) = host.settings["offset"], host.settings["step"]
        (c1, h1, w1), (th, tw) = node.settings["offset"], node.settings["step"]
        settings = {"offset": (c0 + c1, h0 + sh * h1, w0 + sw * w1), "step": (sh * th, sw * tw)}
        settings["source"] = host.settings["source"]
        return host.changed(output=node.output, shape=node.shape, settings=settings)
    others = tuple(name for name in node.inputs if name != host.output)
    return host.changed(
        inputs=(*host.inputs, *others),
        output=node.output,
        parameters={**host.parameters, **node.parameters},
        shapes={**host.shapes, **node.shapes},
        chain=host.chain + node.chain,
        settings={**host.settings, **node.settings},
    )


def _nests(first: Node, second: Node, axis: int) -> bool:
    """Tell whether what the second window finds outside of the first one's result is outside of its operand too."""
    size = first.settings["source"][axis]
    (start, step), (origin, stride) = _line(first, axis), _line(second, axis)
    for place in range(origin, origin + stride * second.shape[axis], stride):
        if 0 <= start + step * place < size and not 0 <= place < first.shape[axis]:
            return False
    return True


def _line(window: Node, axis: int) -> tuple[int, int]:
    """Return offset and step along one axis."""
    return window.settings["offset"][axis], (1, *window.settings["step"])[axis]
