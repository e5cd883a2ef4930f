"""Groups of coupled channels, found by propagating channel ids through the traced network.

Channels that are added to each other share an id, through any number of residual additions, strides and the zero
channels of option A shortcuts. A channel id can only be removed everywhere or nowhere. Ids that reach the hash outputs,
or an operation that is not supported here, are frozen, with the reason. (torch-pruning's dependency graph finds the
same groups in plain networks and is the oracle of the tests; it is not used here since it is wrong where a shortcut
pads channels.)
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
from ..observe.external_reads import externally_read
from . import operations
from .operations import UNKNOWN


@dataclass(frozen=True, eq=False)
class LayerChannels:
    """One layer with the ids of its input and output channels."""

    kind: str  # conv, depthwise, dense, norm, pad
    inputs: np.ndarray  # (I,) int64
    outputs: np.ndarray  # (O,) int64
    area: int = 1  # weights per pair of channels
    positions: int = 1  # pixels of the output

    @property
    def produces(self) -> bool:
        """Whether the outputs are new channels rather than the input channels."""
        return self.kind in ("conv", "dense")

    def macs(self, inputs: int, outputs: int) -> int:
        """Return the multiply-accumulates with ``inputs`` and ``outputs`` channels."""
        if self.kind in ("norm", "pad"):
            return 0
        return self.positions * self.area * outputs * (1 if self.kind == "depthwise" else inputs)


@dataclass(frozen=True)
class Channels:
    """The channel ids of all layers; the frozen ids, with reasons; and the ids that reach a function f with f(a x) != a f(x).

    ``unfollowed`` maps the other layers with parameters to the reason why their channels are unknown.
    """

    layers: dict[str, LayerChannels]
    frozen: dict[int, str]
    nonhomogeneous: frozenset[int]
    unfollowed: dict[str, str] = field(default_factory=dict)

    def members(self, *, producing: bool) -> dict[int, list[str]]:
        """Return the layers that produce each channel id, or with ``producing=False`` those that read it."""
        layers: dict[int, list[str]] = {}
        for path, layer in self.layers.items():
            if layer.produces or not producing:
                for channel in np.unique(layer.outputs if producing else layer.inputs):
                    if producing or layer.kind in ("conv", "dense"):
                        layers.setdefault(int(channel), []).append(path)
        return layers

    def spaces(self) -> list[np.ndarray]:
        """Return the removable channel ids, grouped by the layers that they occur in, in order."""
        signatures: dict[int, list[tuple[str, str, int]]] = {}
        for path, layer in self.layers.items():
            for role in ("inputs", "outputs"):
                for channel, count in zip(*np.unique(getattr(layer, role), return_counts=True), strict=True):
                    signatures.setdefault(int(channel), []).append((path, role, int(count)))
        groups: dict[tuple[tuple[str, str, int], ...], list[int]] = {}
        for channel, signature in sorted(signatures.items()):
            if channel not in self.frozen:
                groups.setdefault(tuple(signature), []).append(channel)
        return [np.array(ids) for ids in groups.values()]


def channels(model: HashModel) -> Channels:
    """Return the channel ids of ``model``. A network that cannot be traced has no layers, and a reason."""
    net = rebuild(model.arch, model.edits, trust_code=True)
    try:
        walk = _Walk(net, LayerTracer().trace(net))
        walk.run(model.arch.input.example().to("meta"))
    except Exception as fault:  # user code may raise anything while it is traced or run on the meta device
        why = (str(fault).splitlines() or [type(fault).__name__])[0]
        return Channels({}, {-1: f"the network cannot be traced: {why[:80]}"}, frozenset())
    for path, reason in externally_read(model).items():
        if layer := walk.book.layers.get(path):
            walk.book.freeze(np.concatenate([layer.inputs, layer.outputs]), f"{path}: {reason}")
    return walk.book.result()


class LayerTracer(fx.Tracer):
    """A tracer for which layers that decode their weight are leaf modules, like plain layers."""

    def is_leaf_module(self, module: nn.Module, path: str) -> bool:
        """Return whether ``module`` is traced as a single call."""
        return hasattr(module, "form") or super().is_leaf_module(module, path)


@dataclass
class _Book:
    """Channel ids and their properties, collected while the graph runs; ids are merged by union-find."""

    parents: list[int] = field(default_factory=list)
    layers: dict[str, LayerChannels] = field(default_factory=dict)
    frozen: dict[int, str] = field(default_factory=dict)
    nonhomogeneous: set[int] = field(default_factory=set)
    unfollowed: dict[str, str] = field(default_factory=dict)

    def fresh(self, count: int) -> np.ndarray:
        first = len(self.parents)
        self.parents += range(first, first + count)
        return np.arange(first, first + count)

    def find(self, channel: int) -> int:
        while self.parents[channel] != channel:
            self.parents[channel] = self.parents[self.parents[channel]]
            channel = self.parents[channel]
        return channel

    def join(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        for one, other in zip(left.tolist(), right.tolist(), strict=True):
            one, other = sorted((self.find(one), self.find(other)))  # noqa: PLW2901  the roots take their places
            self.parents[other] = one
        return left

    def freeze(self, ids: np.ndarray, reason: str) -> np.ndarray:
        for channel in ids.tolist():
            self.frozen.setdefault(channel, reason)
        return ids

    def result(self) -> Channels:
        roots = np.array([self.find(channel) for channel in range(len(self.parents))], dtype=np.int64)
        layers = {
            path: LayerChannels(layer.kind, roots[layer.inputs], roots[layer.outputs], layer.area, layer.positions)
            for path, layer in self.layers.items()
        }
        frozen: dict[int, str] = {}
        for channel, reason in self.frozen.items():
            frozen.setdefault(int(roots[channel]), reason)
        nonhomogeneous = frozenset(int(roots[channel]) for channel in self.nonhomogeneous)
        return Channels(layers, frozen, nonhomogeneous, self.unfollowed)


class _Walk(fx.Interpreter):
    """Runs the graph on meta tensors and propagates channel ids."""

    def __init__(self, net: nn.Module, graph: fx.Graph) -> None:
        super().__init__(fx.GraphModule(net, graph), garbage_collect_values=False)
        self.net = net  # the graph's module keeps only leaves
        self.book = _Book()
        self.ids: dict[fx.Node, np.ndarray] = {}
        self.calls = Counter(str(node.target) for node in graph.nodes if node.op == "call_module")

    def run_node(self, node: fx.Node) -> Any:
        result = super().run_node(node)
        sources = [source for source in node.all_input_nodes if source in self.ids]
        if node.op == "output":
            self._freeze(sources, "reaches the hash outputs")
        elif isinstance(result, tuple | list) and any(isinstance(part, torch.Tensor) for part in result):
            self._freeze(sources, self._refused(node, UNKNOWN))  # channels of several outputs are not supported
        elif isinstance(result, torch.Tensor):
            ids = self._output_ids(node, sources, result) if result.ndim > 1 else UNKNOWN
            if isinstance(ids, str) or len(ids) != result.shape[1]:
                reason = self._refused(node, ids if isinstance(ids, str) else UNKNOWN)
                self._freeze(sources, reason)
                ids = self.book.freeze(self.book.fresh(result.shape[1] if result.ndim > 1 else 0), reason)
            self.ids[node] = ids
        return result

    def _freeze(self, nodes: list[fx.Node], reason: str) -> None:
        for node in nodes:
            self.book.freeze(self.ids[node], reason)

    def _refused(self, node: fx.Node, why: str) -> str:
        """Return why channels that pass ``node`` are frozen, and record it if ``node`` is a layer with parameters."""
        if node.op == "placeholder":
            return "is the network's input"
        if node.op == "call_module":
            layer = self.module.get_submodule(str(node.target))
            why = f"a {type(layer).__name__}, {why}" if why == UNKNOWN else why
            if any(True for _ in layer.parameters()):
                self.book.unfollowed[str(node.target)] = why
        return f"passes {operations.name_of(node)}, {why}"

    def _output_ids(self, node: fx.Node, sources: list[fx.Node], result: torch.Tensor) -> np.ndarray | str:
        """Return the channel ids of the output of a node, or why they are unknown."""
        if not sources:
            return UNKNOWN
        input_ids = self.ids[sources[0]]
        before = self.env[sources[0]]
        if node.op == "call_module":
            return self._module(str(node.target), input_ids, before, result)
        if len(sources) > 1:
            return self._several(node, sources, result.ndim)
        if node.target in operations.FLATTENING:
            if operations.fixed_features(node):
                return f"which makes {result.shape[-1]} features, whatever there is"
            return operations.flattened(input_ids, before, result)
        if node.target is functional.pad:
            return self._padded(node, input_ids, before.ndim)
        if node.target is operator.getitem or node.target in operations.MEANS:
            return input_ids if operations.over_pixels(node, before.ndim, result.ndim) else UNKNOWN
        nonhomogeneous, homogeneous = operations.NONHOMOGENEOUS_CALLS, operations.HOMOGENEOUS_CALLS
        return self._through(node.target in nonhomogeneous, node.target in homogeneous, input_ids)

    def _several(self, node: fx.Node, sources: list[fx.Node], axes: int) -> np.ndarray | str:
        """Return the channel ids of a sum or concatenation."""
        input_ids = [self.ids[source] for source in sources]
        if node.target is torch.cat:
            return np.concatenate(input_ids) if operations.joined(node, len(input_ids), axes) else UNKNOWN
        if any(self.env[source].ndim != axes for source in sources):
            return UNKNOWN  # channels of the one meet pixels of the other
        if node.target in operations.ADDING and len(input_ids) == 2 and len(input_ids[0]) == len(input_ids[1]):
            return self.book.join(*input_ids)
        return UNKNOWN

    def _through(self, nonhomogeneous: bool, homogeneous: bool, input_ids: np.ndarray) -> np.ndarray | str:
        if nonhomogeneous:
            self.book.nonhomogeneous.update(input_ids.tolist())
        return input_ids if nonhomogeneous or homogeneous else UNKNOWN

    def _module(self, path: str, input_ids: np.ndarray, before: torch.Tensor, result: torch.Tensor) -> np.ndarray | str:
        layer = self.module.get_submodule(path)
        if isinstance(layer, nn.Flatten):
            return operations.flattened(input_ids, before, result)
        if isinstance(layer, nn.Conv2d | nn.Linear):
            return self._weighted(path, layer, input_ids, result)
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            self.book.layers[path] = LayerChannels("norm", input_ids, input_ids)
            return self._once(path, input_ids)
        return self._through(
            isinstance(layer, operations.NONHOMOGENEOUS), isinstance(layer, operations.HOMOGENEOUS), input_ids
        )

    def _weighted(
        self, path: str, layer: nn.Conv2d | nn.Linear, input_ids: np.ndarray, result: torch.Tensor
    ) -> np.ndarray | str:
        if type(layer) not in (nn.Conv2d, nn.Linear):
            return f"a {type(layer).__name__}, which may compute in a way of its own"
        if computed(layer):
            return "whose weight is computed from others"
        if isinstance(layer, nn.Linear):
            if result.ndim != 2:
                return "a dense layer on several rows an image"
            made = LayerChannels("dense", input_ids, self.book.fresh(layer.out_features))
        else:
            area, positions = layer.kernel_size[0] * layer.kernel_size[1], result.shape[2] * result.shape[3]
            if layer.groups == 1:
                made = LayerChannels("conv", input_ids, self.book.fresh(layer.out_channels), area, positions)
            elif layer.groups == layer.in_channels == layer.out_channels:
                made = LayerChannels("depthwise", input_ids, input_ids, area, positions)
            elif layer.groups == layer.in_channels:
                return f"a depthwise convolution with {layer.out_channels // layer.groups} outputs for every input"
            else:
                return f"a convolution in {layer.groups} groups"
        self.book.layers[path] = made
        self._once(path, input_ids)
        return self._once(path, made.outputs)

    def _once(self, path: str, ids: np.ndarray) -> np.ndarray:
        if self.calls[path] > 1:
            self.book.freeze(ids, f"{path} is called {self.calls[path]} times")
        return ids

    def _padded(self, node: fx.Node, input_ids: np.ndarray, axes: int) -> np.ndarray | str:
        """Return channel ids with new ones for zero channels; the owning module declares their number as ``before`` and ``behind``."""
        widths, bends, zeros = operations.padding_of(node)
        if not any(widths[2 * (axes - 2) :]):
            return self._through(nonhomogeneous=bends, homogeneous=True, input_ids=input_ids)
        owner = next(reversed(node.meta.get("nn_module_stack") or {"": None}))
        module = self.net.get_submodule(owner)
        before, behind = (*widths, 0, 0)[4:6]
        declared = (getattr(module, "before", None), getattr(module, "behind", None)) == (before, behind)
        if axes != 4 or not declared or not zeros or any(widths[6:]):
            return UNKNOWN
        ids = np.concatenate([self.book.fresh(before), input_ids, self.book.fresh(behind)])
        self.book.layers[f"{owner}:pad"] = LayerChannels("pad", input_ids, ids, area=before)
        return ids
