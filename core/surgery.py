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
    """Replace the layer at ``path``, in place.

    Raises:
        InputError: the path names nothing.
    """
    get_layer(net, path)
    parent, _, name = path.rpartition(".")
    setattr(net.get_submodule(parent), name, layer)
