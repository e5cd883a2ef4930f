"""Convolution and dense layers that decode their weight from a form each time they are called."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from ...core.errors import InputError
from ...core.surgery import set_layer


class DecodedConv2d(nn.Module):
    """A convolution with zero padding whose weight (O, I / groups, kH, kW) is what ``form()`` returns."""

    def __init__(self, form: nn.Module, layer: nn.Conv2d | DecodedConv2d) -> None:
        super().__init__()
        self.form = form
        self.bias = layer.bias
        self.in_channels, self.out_channels, self.kernel_size = layer.in_channels, layer.out_channels, layer.kernel_size
        self.stride, self.padding, self.dilation = layer.stride, layer.padding, layer.dilation
        self.groups, self.padding_mode = layer.groups, layer.padding_mode

    @property
    def weight(self) -> torch.Tensor:
        """The decoded weight."""
        return self.form()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return (N, O, H', W')."""
        return functional.conv2d(images, self.form(), self.bias, self.stride, self.padding, self.dilation, self.groups)

    def dense(self) -> nn.Conv2d:
        """Return the plain layer with the same outputs, in new memory."""
        weight = self.form().detach()
        layer = nn.Conv2d(
            self.in_channels, self.out_channels, self.kernel_size, self.stride, self.padding, self.dilation,
            self.groups, bias=self.bias is not None, padding_mode=self.padding_mode, device="meta",
        )  # fmt: skip
        return _filled(layer, weight, self.bias)


class DecodedLinear(nn.Module):
    """A dense layer whose weight (O, I) is what ``form()`` returns."""

    def __init__(self, form: nn.Module, layer: nn.Linear | DecodedLinear) -> None:
        super().__init__()
        self.form = form
        self.bias = layer.bias
        self.in_features, self.out_features = layer.in_features, layer.out_features

    @property
    def weight(self) -> torch.Tensor:
        """The decoded weight."""
        return self.form()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return (N, O)."""
        return functional.linear(features, self.form(), self.bias)

    def dense(self) -> nn.Linear:
        """Return the plain layer with the same outputs, in new memory."""
        weight = self.form().detach()
        layer = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None, device="meta")
        return _filled(layer, weight, self.bias)


Decoded = DecodedConv2d | DecodedLinear


def decoded(form: nn.Module, layer: nn.Module, path: str) -> Decoded:
    """Return the layer that takes the place of ``layer`` and keeps its weight in ``form``.

    Raises:
        InputError: the layer is no plain convolution or dense layer.
    """
    if isinstance(layer, nn.Linear):
        return DecodedLinear(form, layer)
    if isinstance(layer, nn.Conv2d) and layer.padding_mode == "zeros":
        return DecodedConv2d(form, layer)
    raise InputError(f"layer {path!r} is a {type(layer).__name__}, a plain Conv2d or Linear was expected")


def replace_form(net: nn.Module, path: str, form: nn.Module) -> None:
    """Put a decoding layer with ``form`` at ``path``, in place."""
    layer = net.get_submodule(path)
    set_layer(net, path, decoded(form, layer, path).train(layer.training))


def _filled(layer: nn.Conv2d | nn.Linear, weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Conv2d | nn.Linear:
    layer.weight = nn.Parameter(weight.clone())
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone())
    return layer
