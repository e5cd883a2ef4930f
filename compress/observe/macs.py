"""Multiply-accumulates and parameters of every layer, counted on the meta device.

A network whose forward depends on values cannot run on the meta device: a copy of it runs on zeros instead. Counted are
the multiply-accumulates of convolutions and matrix products; element-wise operations (biases, norms, activations,
pooling) are not, as is usual.

Compressed layers count their own multiplications in evaluation mode, not those of decoding a weight. Shared and hashed
weights, and integers, cost as much as the plain layer. Look-up tables (pq) cost the products of the padded input with
all codewords, which may be more or less. Fastfood costs its three diagonals; its transforms only add. A bundle decodes
pq and fastfood layers to plain ones: the figures in its manifest are those of the plain layers.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from ...core.errors import InputError
from ...core.model import HashModel
from .hooks import hooks

Shape = tuple[int, ...]
_FAULTS = (RuntimeError, ValueError, TypeError, IndexError)


def _by_look_up(
    images: Tensor, codebook: Tensor, _indices: Tensor, _bias: Any, _stride: Any, padding: Sequence[int],
    _dilation: Any, groups: int, out: Tensor,
) -> int:  # fmt: skip
    """Return the products of all sub-vectors, padding included, with their codewords (M, K, C)."""
    rows, columns = (images.shape[2 + axis] + 2 * padding[axis] for axis in range(2))
    return len(out) * rows * columns * groups * codebook.numel()


# multiplications of operators of ours that torch knows nothing of, from their arguments and their result
OWN: Mapping[str, Callable[..., int]] = {
    "hashpress::int8_conv2d": lambda _x, integers, *rest: rest[-1].numel() * integers[0].numel(),
    "hashpress::int8_linear": lambda _x, integers, *rest: rest[-1].numel() * integers[0].numel(),
    "hashpress::hashed": lambda features, *rest: rest[-1].numel() * features.shape[1],
    "hashpress::fastfood": lambda features, *rest: len(features) * sum(values.numel() for values in rest[:3]),
    "hashpress::pq": _by_look_up,
}


@dataclass(frozen=True)
class LayerCost:
    """The cost of one layer for one input, and its input and output shapes without the batch dimension."""

    path: str
    kind: str  # the class of the layer
    macs: int
    parameters: int  # with those of its parts, such as the codebook of a decoded layer
    input: Shape
    output: Shape


@dataclass(frozen=True)
class Costs:
    """The layers with multiplications or parameters in the order in which they run, followed by those that never ran."""

    layers: tuple[LayerCost, ...]

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one input."""
        return sum(layer.macs for layer in self.layers)

    @property
    def parameters(self) -> int:
        """Number of parameters; shared parameters count once."""
        return sum(layer.parameters for layer in self.layers)

    def __getitem__(self, path: str) -> LayerCost:
        return self.by_path[path]

    @property
    def by_path(self) -> Mapping[str, LayerCost]:
        """The layers under their paths."""
        return {layer.path: layer for layer in self.layers}


def count(model: HashModel) -> Costs:
    """Return the costs of ``model`` for one input."""
    return count_net(model.net, model.arch.input.shape, model.arch.input.example().dtype)


def count_net(net: nn.Module, shape: Shape, dtype: torch.dtype = torch.float32) -> Costs:
    """Return the costs of ``net`` for one input of ``shape`` (C, H, W); ``net`` is not changed.

    Nothing is computed, unless the forward of the network depends on values; then a copy of it runs on zeros.

    Raises:
        InputError: The network cannot process this input.
    """
    try:
        return _counted(_hollow(net), torch.zeros(1, *shape, dtype=dtype, device="meta"))
    except _FAULTS:
        try:
            return _counted(copy.deepcopy(net).eval(), torch.zeros(1, *shape, dtype=dtype))
        except _FAULTS as fault:
            text = "".join(str(fault).splitlines()[:1])[:200]
            raise InputError(f"the network cannot be followed with an input of shape {tuple(shape)}: {text}") from fault


def _counted(net: nn.Module, example: Tensor) -> Costs:
    counter = _Counter()
    with torch.no_grad(), example.device, counter.watching(net), counter:
        net(example)
    return Costs(tuple(_rows(net, counter)))


def _hollow(net: nn.Module) -> nn.Module:
    """Return a copy on the meta device, in evaluation mode."""
    tensors = (*net.parameters(), *net.buffers())
    memo: dict[int, Any] = {}
    for value in tensors:
        empty = torch.empty_like(value, device="meta")
        memo[id(value)] = nn.Parameter(empty, requires_grad=False) if isinstance(value, nn.Parameter) else empty
    return copy.deepcopy(net, memo).eval()


class _Counter(TorchDispatchMode):
    """Adds up the multiplications of every operator under the path of the innermost running layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = [""]
        self.macs: dict[str, int] = {}
        self.shapes: dict[str, tuple[Shape, Shape]] = {}
        self.order: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        flops, own = flop_registry.get(func.overloadpacket), OWN.get(func.name())
        if flops is None and own is None:
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        result = func(*args, **kwargs)
        if own is not None:
            self._add(own(*args, result))
        elif flops is not None:
            self._add(flops(*args, **kwargs, out_val=result) // 2)
        return result

    def _add(self, macs: int) -> None:
        path = self.stack[-1]
        self.macs[path] = self.macs.get(path, 0) + macs

    @contextmanager
    def watching(self, net: nn.Module) -> Iterator[None]:
        """Track the running layer."""

        def enter(path: str, _layer: nn.Module, _inputs: Any) -> None:
            self.stack.append(path)
            self.order.append(path)

        def leave(path: str, _layer: nn.Module, inputs: Any, output: Any) -> None:
            self.stack.pop()
            if inputs and isinstance(inputs[0], torch.Tensor) and isinstance(output, torch.Tensor):
                self.shapes.setdefault(path, (tuple(inputs[0].shape[1:]), tuple(output.shape[1:])))

        with hooks(dict(net.named_modules()), before=enter, after=leave):
            yield


def _rows(net: nn.Module, counter: _Counter) -> Iterator[LayerCost]:
    """Yield the layers; parameters count for the nearest enclosing layer that multiplies."""
    modules = dict(net.named_modules())
    parameters: dict[str, int] = {}
    for name, value in net.named_parameters():
        owner = name.rpartition(".")[0]
        around = owner
        while around and around not in counter.macs:
            around = around.rpartition(".")[0]
        path = around if around in counter.macs else owner
        parameters[path] = parameters.get(path, 0) + value.numel()
    wanted = counter.macs.keys() | parameters.keys()
    for path in dict.fromkeys([*counter.order, *modules]):
        if path in wanted:
            shapes = counter.shapes.get(path, ((), ()))
            kind = type(modules[path]).__name__
            yield LayerCost(path, kind, counter.macs.get(path, 0), parameters.get(path, 0), *shapes)
