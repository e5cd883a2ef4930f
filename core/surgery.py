"""Layers by dotted path: the only place that puts one module in another's stead."""

from __future__ import annotations

from torch import nn

from .errors import InputError


def get_layer(net: nn.Module, path: str) -> nn.Module:
    """Return the layer at ``path``, such as ``encoder.layer1.0.conv1``.

    Raises:
        InputError: the path names nothing.
    """
    try:
        return net.get_submodule(path)
    except AttributeError as fault:
        raise InputError(f"no layer {path!r} in this network ({fault})") from fault


def set_layer(net: nn.Module, path: str, layer: nn.Module) -> None:
    """Replace the layer at ``path``, in place; a layer that has several names is replaced at each.

    Raises:
        InputError: the path names nothing.
    """
    old = get_layer(net, path)
    places = [
        (parent, name)
        for parent in net.modules()
        for name, child in parent._modules.items()  # noqa: SLF001  # named_children leaves second names out
        if child is old
    ]
    for parent, name in places:
        setattr(parent, name, layer)
