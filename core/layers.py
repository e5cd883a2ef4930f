"""Layers by dotted path: the only place that puts one module in another's stead."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

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


def computed(layer: nn.Conv2d | nn.Linear) -> bool:
    """Return whether a layer computes its weight, or its bias, from other parameters each time it is called."""
    own = layer._parameters  # noqa: SLF001  # what torch's older weight norm computes is no parameter any more
    return is_parametrized(layer) or own.get("weight") is None or "bias" not in own


def original(layer: nn.Module) -> Tensor:
    """Return the weight under the parametrization, the one that trains."""
    return layer.parametrizations["weight"].original  # type: ignore[union-attr,index]  # torch's typing knows no parametrizations
