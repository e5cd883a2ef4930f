"""Which channels of which layers belong together: the network is followed once, every channel with a label.

Channels that are added to each other share a label, through any number of residual joins, strides and zero channels of
option A shortcuts; a label can be removed everywhere or nowhere. Labels that reach the hash outputs, or something this
file does not know, are frozen, with the reason. (torch-pruning's dependency graph finds the same groups in plain
networks and is the oracle of the tests; it loses count where a shortcut pads channels, so it is not used here.)
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.nn import functional

from ..core.model import HashModel
from .edits import rebuild

# f(a x) = a f(x) for a > 0
HOMOGENEOUS = (nn.ReLU, nn.LeakyReLU, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
HOMOGENEOUS += (nn.Dropout, nn.Identity)
CROOKED = (nn.ReLU6, nn.Sigmoid, nn.Tanh, nn.GELU, nn.SiLU, nn.ELU, nn.Hardswish, nn.Hardsigmoid, nn.Softplus)
HOMOGENEOUS_CALLS: tuple[Any, ...] = (functional.relu, torch.relu, functional.max_pool2d, functional.avg_pool2d)
HOMOGENEOUS_CALLS += (functional.adaptive_avg_pool2d, functional.dropout, functional.leaky_relu, torch.max_pool2d)
HOMOGENEOUS_CALLS += ("relu", "contiguous", "clone")
CROOKED_CALLS: tuple[Any, ...] = (torch.sigmoid, torch.tanh, functional.gelu, functional.silu, functional.relu6)
CROOKED_CALLS += (functional.sigmoid, functional.tanh, "sigmoid", "tanh")
FLATTENING = (torch.flatten, torch.reshape, "flatten", "view", "reshape")
ADDING = (operator.add, operator.iadd, torch.add, "add", "add_")
MEANS = (torch.mean, "mean")


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer with the labels of its input and output channels."""

    kind: str  # conv, depthwise, dense, norm, pad
    inputs: np.ndarray  # (I,) int64
    outputs: np.ndarray  # (O,) int64
    area: int = 1  # weights per pair of channels
    positions: int = 1  # pixels of the output

    @property
    def produces(self) -> bool:
        """Whether its outputs are new values rather than its inputs again."""
        return self.kind in ("conv", "dense")

    def macs(self, inputs: int, outputs: int) -> int:
        """Return the multiplications with so many channels left."""
        if self.kind in ("norm", "pad"):
            return 0
        return self.positions * self.area * outputs * (1 if self.kind == "depthwise" else inputs)


@dataclass(frozen=True)
class Channels:
    """All layers with their labels; why some labels are frozen; which ones meet a function that bends scales."""

    layers: dict[str, Layer]
    frozen: dict[int, str]
    crooked: frozenset[int]

    def members(self, *, producing: bool) -> dict[int, list[str]]:
        """Return the layers that produce, or else read, each label."""
        found: dict[int, list[str]] = {}
        for path, layer in self.layers.items():
            if layer.produces or not producing:
                for label in np.unique(layer.outputs if producing else layer.inputs):
                    if producing or layer.kind in ("conv", "dense"):
                        found.setdefault(int(label), []).append(path)
        return found

    def spaces(self) -> list[np.ndarray]:
        """Return the labels that can be removed, those which stand in the same layers together, in order."""
        signatures: dict[int, list[tuple[str, str, int]]] = {}
        for path, layer in self.layers.items():
            for role in ("inputs", "outputs"):
                for label, count in zip(*np.unique(getattr(layer, role), return_counts=True), strict=True):
                    signatures.setdefault(int(label), []).append((path, role, int(count)))
        groups: dict[tuple[tuple[str, str, int], ...], list[int]] = {}
        for label, signature in sorted(signatures.items()):
            if label not in self.frozen:
                groups.setdefault(tuple(signature), []).append(label)
        return [np.array(labels) for labels in groups.values()]


def channels(model: HashModel) -> Channels:
    """Return the labels of all channels of ``model``; a network that cannot be followed has no layers and a reason."""
    net = rebuild(model.arch, model.edits, trust_code=True)
    try:
        graph = LayerTracer().trace(net)
    except Exception as fault:  # foreign code may raise anything while it is traced
        return Channels({}, {-1: f"the network cannot be traced: {str(fault).splitlines()[0][:80]}"}, frozenset())
    walk = _Walk(net, graph)
    walk.run(torch.empty(1, *model.arch.input.shape, device="meta"))
    return walk.book.result()


class LayerTracer(fx.Tracer):
    """A tracer to which a layer that decodes its weight is one call, like a plain one."""

    def is_leaf_module(self, module: nn.Module, path: str) -> bool:
        """Return whether ``module`` is one call."""
        return hasattr(module, "form") or super().is_leaf_module(module, path)


@dataclass
class _Book:
    """Labels and what is known of them while the network is followed."""

    parents: list[int] = field(default_factory=list)
    layers: dict[str, Layer] = field(default_factory=dict)
    frozen: dict[int, str] = field(default_factory=dict)
    crooked: set[int] = field(default_factory=set)

    def fresh(self, count: int) -> np.ndarray:
        first = len(self.parents)
        self.parents += range(first, first + count)
        return np.arange(first, first + count)

    def find(self, label: int) -> int:
        while self.parents[label] != label:
            self.parents[label] = self.parents[self.parents[label]]
            label = self.parents[label]
        return label

    def join(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        for one, other in zip(left.tolist(), right.tolist(), strict=True):
            one, other = sorted((self.find(one), self.find(other)))  # noqa: PLW2901  the roots take their places
            self.parents[other] = one
        return left

    def freeze(self, labels: np.ndarray, reason: str) -> np.ndarray:
        for label in labels.tolist():
            self.frozen.setdefault(label, reason)
        return labels

    def result(self) -> Channels:
        roots = np.array([self.find(label) for label in range(len(self.parents))], dtype=np.int64)
        layers = {
            path: Layer(layer.kind, roots[layer.inputs], roots[layer.outputs], layer.area, layer.positions)
            for path, layer in self.layers.items()
        }
        frozen: dict[int, str] = {}
        for label, reason in self.frozen.items():
            frozen.setdefault(int(roots[label]), reason)
        return Channels(layers, frozen, frozenset(int(roots[label]) for label in self.crooked))


class _Walk(fx.Interpreter):
    """Runs the graph on tensors without values and carries the labels along."""

    def __init__(self, net: nn.Module, graph: fx.Graph) -> None:
        super().__init__(fx.GraphModule(net, graph), garbage_collect_values=False)
        self.net = net  # the graph's module keeps only leaves
        self.book = _Book()
        self.labels: dict[fx.Node, np.ndarray] = {}
        self.calls = Counter(str(node.target) for node in graph.nodes if node.op == "call_module")

    def run_node(self, node: fx.Node) -> Any:
        result = super().run_node(node)
        sources = [source for source in node.all_input_nodes if source in self.labels]
        unknown = f"passes {_name(node)}, which is not known"
        if node.op == "output":
            for source in sources:
                self.book.freeze(self.labels[source], "reaches the hash outputs")
        elif isinstance(result, tuple | list) and any(isinstance(part, torch.Tensor) for part in result):
            for source in sources:  # parts of a tensor: which of them holds which channel is not followed
                self.book.freeze(self.labels[source], unknown)
        elif isinstance(result, torch.Tensor) and result.ndim > 1:
            found = self._labels(node, sources, result)
            if found is None or len(found) != result.shape[1]:
                reason = "is the network's input" if node.op == "placeholder" else unknown
                for source in sources:
                    self.book.freeze(self.labels[source], reason)
                found = self.book.freeze(self.book.fresh(result.shape[1]), reason)
            self.labels[node] = found
        return result

    def _labels(self, node: fx.Node, sources: list[fx.Node], result: torch.Tensor) -> np.ndarray | None:
        if not sources:
            return None
        given = self.labels[sources[0]]
        before = self.env[sources[0]]
        if node.op == "call_module":
            return self._module(str(node.target), given, before, result)
        if len(sources) > 1:
            return self._several(node, [self.labels[source] for source in sources], result.ndim)
        if node.target in FLATTENING:
            return flattened(given, before, result)
        if node.target is functional.pad:
            return self._padded(node, given)
        if node.target is operator.getitem:
            index = node.args[1] if isinstance(node.args[1], tuple) else (node.args[1],)
            whole = all(part == slice(None) for part in index[:2]) and result.ndim == before.ndim
            return given if whole else None
        if node.target in MEANS:
            return given if before.ndim == 4 and result.shape[:2] == before.shape[:2] else None
        return self._through(node.target in CROOKED_CALLS, node.target in HOMOGENEOUS_CALLS, given)

    def _several(self, node: fx.Node, given: list[np.ndarray], axes: int) -> np.ndarray | None:
        """Return the labels of a sum or of tensors one behind the other."""
        if node.target is torch.cat:
            whole = len(given) == len(node.args[0]) and _axis(node) in (1, 1 - axes)  # type: ignore[arg-type]  # a list
            return np.concatenate(given) if whole else None
        if node.target in ADDING and len(given) == 2 and len(given[0]) == len(given[1]):
            return self.book.join(*given)
        return None

    def _through(self, crooked: bool, homogeneous: bool, given: np.ndarray) -> np.ndarray | None:
        if crooked:
            self.book.crooked.update(given.tolist())
        return given if crooked or homogeneous else None

    def _module(self, path: str, given: np.ndarray, before: torch.Tensor, result: torch.Tensor) -> np.ndarray | None:
        layer = self.module.get_submodule(path)
        if isinstance(layer, nn.Flatten):
            return flattened(given, before, result)
        if isinstance(layer, nn.Conv2d | nn.Linear):
            if type(layer) not in (nn.Conv2d, nn.Linear):  # it may compute in a way of its own
                return None
            return self._weighted(path, layer, given, result)
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            self.book.layers[path] = Layer("norm", given, given)
            return self._once(path, given)
        return self._through(isinstance(layer, CROOKED), isinstance(layer, HOMOGENEOUS), given)

    def _weighted(
        self, path: str, layer: nn.Conv2d | nn.Linear, given: np.ndarray, result: torch.Tensor
    ) -> np.ndarray | None:
        if isinstance(layer, nn.Linear):
            if result.ndim != 2:
                return None
            made = Layer("dense", given, self.book.fresh(layer.out_features))
        else:
            area, positions = layer.kernel_size[0] * layer.kernel_size[1], result.shape[2] * result.shape[3]
            if layer.groups == 1:
                made = Layer("conv", given, self.book.fresh(layer.out_channels), area, positions)
            elif layer.groups == layer.in_channels == layer.out_channels:
                made = Layer("depthwise", given, given, area, positions)
            else:
                return None
        self.book.layers[path] = made
        self._once(path, given)
        return self._once(path, made.outputs)

    def _once(self, path: str, labels: np.ndarray) -> np.ndarray:
        if self.calls[path] > 1:
            self.book.freeze(labels, f"{path} is called {self.calls[path]} times")
        return labels

    def _padded(self, node: fx.Node, given: np.ndarray) -> np.ndarray | None:
        """Zero channels get labels of their own; their number must be told by the owner, as ``before`` and ``behind``."""
        widths: Sequence[int] = node.args[1] if len(node.args) > 1 else node.kwargs["pad"]  # type: ignore[assignment]
        if not any(widths[4:]):
            return given
        owner = next(reversed(node.meta.get("nn_module_stack") or {"": None}))
        module = self.net.get_submodule(owner)
        before, behind = widths[4], widths[5]
        if (getattr(module, "before", None), getattr(module, "behind", None)) != (before, behind):
            return None
        labels = np.concatenate([self.book.fresh(before), given, self.book.fresh(behind)])
        self.book.layers[f"{owner}:pad"] = Layer("pad", given, labels, area=before)
        return labels


def flattened(given: np.ndarray, before: torch.Tensor, result: torch.Tensor) -> np.ndarray | None:
    """Return one label per feature when everything behind the first axis became one."""
    if result.ndim != 2 or result.shape[0] != before.shape[0]:
        return None
    return np.repeat(given, before.shape[2:].numel())


def _name(node: fx.Node) -> str:
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "a function")


def _axis(node: fx.Node) -> Any:
    return node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
