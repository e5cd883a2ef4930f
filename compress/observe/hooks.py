"""Forward hooks on layers by path.

This is the only module of ``compress`` that registers hooks. All of them are removed at the end of a block or call,
also after an error. They work for every network that runs, also for those that cannot be traced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from ...core.inputs import Input
from ...core.layers import get_layer

Inputs = tuple[Any, ...]  # the positional arguments of a layer's call
Before = Callable[[str, Any, Inputs], Inputs | None]  # path, layer, inputs -> replaced inputs, or None
After = Callable[[str, Any, Inputs, Any], Any]  # path, layer, inputs, output -> replaced output, or None


class StopForward(Exception):  # noqa: N818  # no error
    """Raised by a hook to skip the rest of the forward pass; the caller suppresses it."""


@contextmanager
def hooks(
    layers: Mapping[str, nn.Module], *, before: Before | None = None, after: After | None = None
) -> Iterator[None]:
    """Call ``before`` and ``after`` at every call of each of ``layers`` (path -> layer) in this block.

    The return value of a hook replaces the inputs (a tuple) or the output, unless it is None.
    """

    def as_pre_hook(path: str, hook: Before) -> Callable[..., Any]:
        return lambda layer, inputs: hook(path, layer, inputs)

    def as_hook(path: str, hook: After) -> Callable[..., Any]:
        return lambda layer, inputs, output: hook(path, layer, inputs, output)

    with ExitStack() as stack:
        for path, layer in layers.items():
            if before is not None:
                stack.callback(layer.register_forward_pre_hook(as_pre_hook(path, before)).remove)
            if after is not None:
                stack.callback(layer.register_forward_hook(as_hook(path, after)).remove)
        yield


def layers_at(net: nn.Module, paths: Iterable[str]) -> dict[str, nn.Module]:
    """Return the layers at ``paths``, without duplicates, as :func:`hooks` takes them.

    Raises:
        InputError: There is no layer at a path.
    """
    return {path: get_layer(net, path) for path in paths}


def calls(net: nn.Module, paths: Iterable[str], spec: Input) -> list[tuple[str, torch.Size]]:
    """Return path and output shape of every call of the layers at ``paths``, in order, for one example input."""
    order: list[tuple[str, torch.Size]] = []

    def note(path: str, _layer: nn.Module, _inputs: Inputs, output: Any) -> None:
        order.append((path, output.shape))

    with torch.inference_mode(), hooks(layers_at(net, paths), after=note):
        net(spec.example())
    return order


@torch.no_grad()
def output_axes(net: nn.Module, paths: Iterable[str], spec: Input) -> dict[str, int]:
    """Return the number of axes of the output of each layer that runs, of its last call."""
    axes: dict[str, int] = {}

    def note(path: str, _layer: nn.Module, _inputs: Inputs, output: Any) -> None:
        axes[path] = output.ndim

    with hooks(layers_at(net, paths), after=note):
        net.eval()(spec.example())
    return axes


def first_inputs(net: nn.Module, paths: Iterable[str], images: Tensor) -> dict[str, Tensor]:
    """Return the first input of the first call of each layer on ``images`` (N, ...), without running the layers after them."""
    return _first(net, paths, images, lambda inputs, _output: inputs[0])


def first_outputs(net: nn.Module, paths: Iterable[str], images: Tensor) -> dict[str, Tensor]:
    """Return the output of the first call of each layer on ``images`` (N, ...), without running the layers after them."""
    return _first(net, paths, images, lambda _inputs, output: output)


@torch.no_grad()
def _first(
    net: nn.Module, paths: Iterable[str], images: Tensor, value: Callable[[Inputs, Any], Tensor]
) -> dict[str, Tensor]:
    values: dict[str, Tensor] = {}
    layers = layers_at(net, paths)

    def record(path: str, _layer: nn.Module, inputs: Inputs, output: Any) -> None:
        values.setdefault(path, value(inputs, output).detach())
        if len(values) == len(layers):
            raise StopForward

    with suppress(StopForward), hooks(layers, after=record):
        net(images)
    return values


def first_call(net: nn.Module, path: str, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return input and output of the first call of a layer on ``images`` (N, ...), without running the layers after it."""
    values: list[tuple[Tensor, Tensor]] = []

    def record(_path: str, _layer: nn.Module, inputs: Inputs, output: Any) -> None:
        values.append((inputs[0], output))
        raise StopForward

    with suppress(StopForward), hooks(layers_at(net, [path]), after=record):
        net(images)
    return values[0]
