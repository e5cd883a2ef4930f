"""Convolution and dense layers that decode their weight from a form each time they are called."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ...core.errors import InputError
from ...core.layers import set_layer
from .forms import Form, check_half


class DecodedConv2d(nn.Module):
    """A convolution with zero padding whose weight (O, I / groups, kH, kW) is what ``form()`` returns."""

    def __init__(self, form: Form, layer: nn.Conv2d) -> None:
        super().__init__()
        self.form = form
        self.bias = _own(layer.bias)
        self.in_channels, self.out_channels, self.kernel_size = layer.in_channels, layer.out_channels, layer.kernel_size
        self.stride, self.padding, self.dilation = layer.stride, layer.padding, layer.dilation
        self.groups = layer.groups

    @property
    def weight(self) -> torch.Tensor:
        """The decoded weight."""
        return self.form()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return (N, O, H', W')."""
        return functional.conv2d(images, self.form(), self.bias, self.stride, self.padding, self.dilation, self.groups)

    def dense(self) -> nn.Module:
        """Return the plain layer with the same outputs, in new memory."""
        names = ("kernel_size", "stride", "padding", "dilation", "groups")
        settings: dict[str, Any] = {name: getattr(self, name) for name in names}
        layer = nn.Conv2d(self.in_channels, self.out_channels, bias=False, device="meta", **settings)
        return _filled(layer, self)


class DecodedLinear(nn.Module):
    """A dense layer whose weight (O, I) is what ``form()`` returns."""

    def __init__(self, form: Form, layer: nn.Linear) -> None:
        super().__init__()
        self.form = form
        self.bias = _own(layer.bias)
        self.in_features, self.out_features = layer.in_features, layer.out_features

    @property
    def weight(self) -> torch.Tensor:
        """The decoded weight."""
        return self.form()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return (N, O)."""
        return functional.linear(features, self.form(), self.bias)

    def dense(self) -> nn.Module:
        """Return the plain layer with the same outputs, in new memory."""
        return _filled(nn.Linear(self.in_features, self.out_features, bias=False, device="meta"), self)


Decoded = DecodedConv2d | DecodedLinear


def decoded(form: Form, layer: nn.Module, path: str) -> Decoded:
    """Return the layer that takes the place of ``layer`` and keeps its weight in ``form``.

    Raises:
        InputError: the layer is no plain convolution or dense layer.
    """
    if isinstance(layer, nn.Linear):
        return DecodedLinear(form, layer)
    if isinstance(layer, nn.Conv2d) and layer.padding_mode == "zeros":
        return DecodedConv2d(form, layer)
    raise InputError(f"layer {path!r} is a {type(layer).__name__}, a plain Conv2d or Linear was expected")


def replace_form(net: nn.Module, path: str, form: Form) -> None:
    """Put a decoding layer with ``form`` at ``path``, in place."""
    layer = net.get_submodule(path)
    set_layer(net, path, decoded(form, layer, path).train(layer.training))


@torch.no_grad()
def settle(net: nn.Module) -> None:
    """Round every form, and the bias beside it, to what the file keeps, in place.

    Raises:
        InputError: a value is too large for half precision.
    """
    for path, layer in net.named_modules():
        if isinstance(layer, Decoded):
            settle_layer(path, layer)


@torch.no_grad()
def settle_layer(path: str, layer: Decoded) -> None:
    """Round the form of one layer, and the bias beside it, as :func:`settle` does."""
    if layer.form.rounded:
        check_half(path, layer.parameters())
    layer.form.settle()
    if layer.form.rounded and layer.bias is not None:
        layer.bias.copy_(layer.bias.half().float())


def _own(bias: torch.Tensor | None) -> Any:  # a parameter or None, as torch has it
    """Return a bias that no other layer has: passes write into it."""
    return None if bias is None else nn.Parameter(bias.detach().clone(), bias.requires_grad)


@torch.no_grad()  # large forms decode in parts where nothing is to be differentiated
def _filled(layer: nn.Conv2d | nn.Linear, source: Decoded) -> nn.Module:
    weight = source.form().detach()
    kept = {value.untyped_storage().data_ptr() for value in source.form.state_dict().values()}
    if weight.untyped_storage().data_ptr() in kept:  # most forms decode into new memory: no second copy of it
        weight = weight.clone()
    layer.weight = nn.Parameter(weight)
    if source.bias is not None:
        layer.bias = nn.Parameter(source.bias.detach().clone())
    return layer
