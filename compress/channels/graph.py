"""Which channels of which layers belong together: the network is followed once, every channel with a label.

Channels that are added to each other share a label, through any number of residual joins, strides and zero channels of
option A shortcuts; a label can be removed everywhere or nowhere. Labels that reach the hash outputs, or something this
file does not know, are frozen, with the reason. (torch-pruning's dependency graph finds the same groups in plain
networks and is the oracle of the tests; it loses count where a shortcut pads channels, so it is not used here.)
"""

from __future__ import annotations

import operator
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.nn import functional

from ...core.layers import computed
from ...core.model import HashModel
from ...modelfile.edits import rebuild
from ..observe.external_reads import lent
from . import operations
from .operations import UNKNOWN


@dataclass(frozen=True, eq=False)
class LayerChannels:
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
    """All layers with their labels; why some labels are frozen; which ones meet a function that bends scales.

    ``unfollowed`` says why other layers with parameters are not among the layers.
    """

    layers: dict[str, LayerChannels]
    frozen: dict[int, str]
    crooked: frozenset[int]
    unfollowed: dict[str, str] = field(default_factory=dict)

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
        walk = _Walk(net, LayerTracer().trace(net))
        walk.run(model.arch.input.example().to("meta"))
    except Exception as fault:  # foreign code may raise anything while it is traced, or runs without values
        why = (str(fault).splitlines() or [type(fault).__name__])[0]
        return Channels({}, {-1: f"the network cannot be traced: {why[:80]}"}, frozenset())
    for path, reason in lent(model).items():
        if layer := walk.book.layers.get(path):
            walk.book.freeze(np.concatenate([layer.inputs, layer.outputs]), f"{path}: {reason}")
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
    layers: dict[str, LayerChannels] = field(default_factory=dict)
    frozen: dict[int, str] = field(default_factory=dict)
    crooked: set[int] = field(default_factory=set)
    unfollowed: dict[str, str] = field(default_factory=dict)

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
            path: LayerChannels(layer.kind, roots[layer.inputs], roots[layer.outputs], layer.area, layer.positions)
            for path, layer in self.layers.items()
        }
        frozen: dict[int, str] = {}
        for label, reason in self.frozen.items():
            frozen.setdefault(int(roots[label]), reason)
        crooked = frozenset(int(roots[label]) for label in self.crooked)
        return Channels(layers, frozen, crooked, self.unfollowed)


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
        if node.op == "output":
            self._freeze(sources, "reaches the hash outputs")
        elif isinstance(result, tuple | list) and any(isinstance(part, torch.Tensor) for part in result):
            self._freeze(sources, self._refused(node, UNKNOWN))  # which part holds which channel is not followed
        elif isinstance(result, torch.Tensor):
            found = self._labels(node, sources, result) if result.ndim > 1 else UNKNOWN
            if isinstance(found, str) or len(found) != result.shape[1]:
                reason = self._refused(node, found if isinstance(found, str) else UNKNOWN)
                self._freeze(sources, reason)
                found = self.book.freeze(self.book.fresh(result.shape[1] if result.ndim > 1 else 0), reason)
            self.labels[node] = found
        return result

    def _freeze(self, nodes: list[fx.Node], reason: str) -> None:
        for node in nodes:
            self.book.freeze(self.labels[node], reason)

    def _refused(self, node: fx.Node, why: str) -> str:
        """Return why channels that pass ``node`` stay, and note it for a layer with parameters."""
        if node.op == "placeholder":
            return "is the network's input"
        if node.op == "call_module":
            layer = self.module.get_submodule(str(node.target))
            why = f"a {type(layer).__name__}, {why}" if why == UNKNOWN else why
            if any(True for _ in layer.parameters()):
                self.book.unfollowed[str(node.target)] = why
        return f"passes {operations.name_of(node)}, {why}"

    def _labels(self, node: fx.Node, sources: list[fx.Node], result: torch.Tensor) -> np.ndarray | str:
        """Return the labels of what a node gives, or why they are not known."""
        if not sources:
            return UNKNOWN
        given = self.labels[sources[0]]
        before = self.env[sources[0]]
        if node.op == "call_module":
            return self._module(str(node.target), given, before, result)
        if len(sources) > 1:
            return self._several(node, sources, result.ndim)
        if node.target in operations.FLATTENING:
            if operations.fixed_features(node):
                return f"which makes {result.shape[-1]} features, whatever there is"
            return operations.flattened(given, before, result)
        if node.target is functional.pad:
            return self._padded(node, given, before.ndim)
        if node.target is operator.getitem or node.target in operations.MEANS:
            return given if operations.over_pixels(node, before.ndim, result.ndim) else UNKNOWN
        crooked, straight = operations.CROOKED_CALLS, operations.HOMOGENEOUS_CALLS
        return self._through(node.target in crooked, node.target in straight, given)

    def _several(self, node: fx.Node, sources: list[fx.Node], axes: int) -> np.ndarray | str:
        """Return the labels of a sum or of tensors one behind the other."""
        given = [self.labels[source] for source in sources]
        if node.target is torch.cat:
            return np.concatenate(given) if operations.joined(node, len(given), axes) else UNKNOWN
        if any(self.env[source].ndim != axes for source in sources):
            return UNKNOWN  # channels of the one meet pixels of the other
        if node.target in operations.ADDING and len(given) == 2 and len(given[0]) == len(given[1]):
            return self.book.join(*given)
        return UNKNOWN

    def _through(self, crooked: bool, homogeneous: bool, given: np.ndarray) -> np.ndarray | str:
        if crooked:
            self.book.crooked.update(given.tolist())
        return given if crooked or homogeneous else UNKNOWN

    def _module(self, path: str, given: np.ndarray, before: torch.Tensor, result: torch.Tensor) -> np.ndarray | str:
        layer = self.module.get_submodule(path)
        if isinstance(layer, nn.Flatten):
            return operations.flattened(given, before, result)
        if isinstance(layer, nn.Conv2d | nn.Linear):
            return self._weighted(path, layer, given, result)
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            self.book.layers[path] = LayerChannels("norm", given, given)
            return self._once(path, given)
        return self._through(isinstance(layer, operations.CROOKED), isinstance(layer, operations.HOMOGENEOUS), given)

    def _weighted(
        self, path: str, layer: nn.Conv2d | nn.Linear, given: np.ndarray, result: torch.Tensor
    ) -> np.ndarray | str:
        if type(layer) not in (nn.Conv2d, nn.Linear):
            return f"a {type(layer).__name__}, which may compute in a way of its own"
        if computed(layer):
            return "whose weight is computed from others"
        if isinstance(layer, nn.Linear):
            if result.ndim != 2:
                return "a dense layer on several rows an image"
            made = LayerChannels("dense", given, self.book.fresh(layer.out_features))
        else:
            area, positions = layer.kernel_size[0] * layer.kernel_size[1], result.shape[2] * result.shape[3]
            if layer.groups == 1:
                made = LayerChannels("conv", given, self.book.fresh(layer.out_channels), area, positions)
            elif layer.groups == layer.in_channels == layer.out_channels:
                made = LayerChannels("depthwise", given, given, area, positions)
            elif layer.groups == layer.in_channels:
                return f"a depthwise convolution with {layer.out_channels // layer.groups} outputs for every input"
            else:
                return f"a convolution in {layer.groups} groups"
        self.book.layers[path] = made
        self._once(path, given)
        return self._once(path, made.outputs)

    def _once(self, path: str, labels: np.ndarray) -> np.ndarray:
        if self.calls[path] > 1:
            self.book.freeze(labels, f"{path} is called {self.calls[path]} times")
        return labels

    def _padded(self, node: fx.Node, given: np.ndarray, axes: int) -> np.ndarray | str:
        """Zero channels get labels of their own; their number must be told by the owner, as ``before`` and ``behind``."""
        widths, bends, zeros = operations.padding_of(node)
        if not any(widths[2 * (axes - 2) :]):
            return self._through(crooked=bends, homogeneous=True, given=given)
        owner = next(reversed(node.meta.get("nn_module_stack") or {"": None}))
        module = self.net.get_submodule(owner)
        before, behind = (*widths, 0, 0)[4:6]
        told = (getattr(module, "before", None), getattr(module, "behind", None)) == (before, behind)
        if axes != 4 or not told or not zeros or any(widths[6:]):
            return UNKNOWN
        labels = np.concatenate([self.book.fresh(before), given, self.book.fresh(behind)])
        self.book.layers[f"{owner}:pad"] = LayerChannels("pad", given, labels, area=before)
        return labels
