"""What all compressed layers share: a weight kept in some encoding (its ``form``), and layers that decode it at each call."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ...core.errors import InputError, ModelFileError
from ...core.layers import get_layer, set_layer

HALF_END = 65520.0  # from here on binary16 rounds to infinity


def largest(values: torch.Tensor) -> float:
    """Return the largest size among ``values``, NaN when one is; nothing as large as they are stands beside them."""
    if not values.numel():
        return 0.0
    low, high = torch.aminmax(values.detach())
    return max(-float(low), float(high))


def check_half(path: str, values: Iterable[torch.Tensor]) -> None:
    """Raise InputError when one of a layer's ``values`` becomes infinite in binary16."""
    for value in values:
        if not largest(value) < HALF_END:
            raise InputError(
                f"layer {path!r}: half precision ends at 65504 and {largest(value):g} is to be kept in it; "
                'set precision = "float32" (of share: codebook = "float32"), or skip the layer'
            )


def index_dtype(entries: int) -> torch.dtype:
    """Return the smallest signed or unsigned type that numbers ``entries`` values."""
    return torch.uint8 if entries <= 1 << 8 else torch.int16 if entries <= 1 << 15 else torch.int32


class CompressedWeight(nn.Module):
    """What every form has: a call that returns the dense weight, and a state it settles in."""

    rounded = False  # whether values, and the bias beside them, are kept in binary16

    @property
    def factors(self) -> torch.Tensor | None:
        """What multiplies the outputs (O,), where the form has such values."""
        return None

    def settle(self) -> None:
        """Round the values to what the file keeps, in place; called at the end of a training."""


class CompressedConv2d(nn.Module):
    """A convolution with zero padding whose weight (O, I / groups, kH, kW) is what ``form()`` returns."""

    def __init__(self, form: CompressedWeight, layer: nn.Conv2d) -> None:
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


class CompressedLinear(nn.Module):
    """A dense layer whose weight (O, I) is what ``form()`` returns."""

    def __init__(self, form: CompressedWeight, layer: nn.Linear) -> None:
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


CompressedLayer = CompressedConv2d | CompressedLinear


def compressed_layer(form: CompressedWeight, layer: nn.Module, path: str) -> CompressedLayer:
    """Return the layer that takes the place of ``layer`` and keeps its weight in ``form``.

    Raises:
        InputError: the layer is no plain convolution or dense layer.
    """
    if isinstance(layer, nn.Linear):
        return CompressedLinear(form, layer)
    if isinstance(layer, nn.Conv2d) and layer.padding_mode == "zeros":
        return CompressedConv2d(form, layer)
    raise InputError(f"layer {path!r} is a {type(layer).__name__}, a plain Conv2d or Linear was expected")


def compress_layer(net: nn.Module, path: str, form: CompressedWeight) -> None:
    """Put a decoding layer with ``form`` at ``path``, in place."""
    layer = net.get_submodule(path)
    set_layer(net, path, compressed_layer(form, layer, path).train(layer.training))


@torch.no_grad()
def round_weights(net: nn.Module) -> None:
    """Round every form, and the bias beside it, to what the file keeps, in place.

    Raises:
        InputError: a value is too large for half precision.
    """
    for path, layer in net.named_modules():
        if isinstance(layer, CompressedLayer):
            round_layer(path, layer)


@torch.no_grad()
def round_layer(path: str, layer: CompressedLayer) -> None:
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
def _filled(layer: nn.Conv2d | nn.Linear, source: CompressedLayer) -> nn.Module:
    weight = source.form().detach()
    kept = {value.untyped_storage().data_ptr() for value in source.form.state_dict().values()}
    if weight.untyped_storage().data_ptr() in kept:  # most forms decode into new memory: no second copy of it
        weight = weight.clone()
    layer.weight = nn.Parameter(weight)
    if source.bias is not None:
        layer.bias = nn.Parameter(source.bias.detach().clone())
    return layer


def plain_layer(net: nn.Module, path: str, edit: object) -> tuple[nn.Conv2d | nn.Linear, tuple[int, ...]]:
    """Return the plain layer at ``path`` and the shape of its weight."""
    layer = get_layer(net, path)
    if not isinstance(layer, nn.Conv2d | nn.Linear):
        raise ModelFileError(f"{edit}: this layer is a {type(layer).__name__}, a Conv2d or Linear was expected")
    if isinstance(layer, nn.Conv2d) and (layer.padding_mode != "zeros" or isinstance(layer.padding, str)):
        raise ModelFileError(f"{edit}: this convolution pads with {layer.padding_mode!r} or by name, zeros are needed")
    return layer, tuple(layer.weight.shape)


def absorbing(layer: Any) -> torch.Tensor | None:
    """Return what takes a factor per output channel in ``layer``: a plain weight, or the factors that its form has."""
    if isinstance(layer, CompressedLayer):
        return layer.form.factors
    return layer.weight if type(layer) in (nn.Conv2d, nn.Linear) else None
