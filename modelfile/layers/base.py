"""Base classes of compressed layers: an encoded weight (the attribute ``form``), and layers that decode it in forward."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ...core.errors import InputError, ModelFileError
from ...core.layers import get_layer, set_layer
from ...core.usable_weights import max_abs

HALF_OVERFLOW = 65520.0  # binary16 rounds values from here on to infinity


def check_half_range(path: str, values: Iterable[torch.Tensor]) -> None:
    """Check that no element of ``values`` overflows in half precision.

    Raises:
        InputError: one does; the message names the layer at ``path``.
    """
    for value in values:
        if not max_abs(value) < HALF_OVERFLOW:
            raise InputError(
                f"layer {path!r}: half precision ends at 65504, found a value of {max_abs(value):g}; "
                'set precision = "float32" (of share: codebook = "float32"), or skip the layer'
            )


def index_dtype(entries: int) -> torch.dtype:
    """Return the smallest integer dtype that can index ``entries`` values: uint8, int16 or int32."""
    return torch.uint8 if entries <= 1 << 8 else torch.int16 if entries <= 1 << 15 else torch.int32


class CompressedWeight(nn.Module):
    """Base class of encoded weights: calling the module returns the dense weight."""

    rounded = False  # whether the file stores the values, and the bias of the layer, in binary16

    @property
    def factors(self) -> torch.Tensor | None:
        """The scale of each output channel (O,), None if the encoding has none."""
        return None

    def round_to_file_precision(self) -> None:
        """Round the values in place to the precision in which the file stores them; called after training."""


class CompressedConv2d(nn.Module):
    """A zero-padded convolution that decodes its weight (O, I / groups, kH, kW) by calling ``form``."""

    def __init__(self, form: CompressedWeight, layer: nn.Conv2d) -> None:
        super().__init__()
        self.form = form
        self.bias = _copied(layer.bias)
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
    """A linear layer that decodes its weight (O, I) by calling ``form``."""

    def __init__(self, form: CompressedWeight, layer: nn.Linear) -> None:
        super().__init__()
        self.form = form
        self.bias = _copied(layer.bias)
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
    """Return the compressed layer that replaces ``layer`` and stores its weight in ``form``.

    Raises:
        InputError: the layer is not a zero-padded Conv2d or a Linear.
    """
    if isinstance(layer, nn.Linear):
        return CompressedLinear(form, layer)
    if isinstance(layer, nn.Conv2d) and layer.padding_mode == "zeros":
        return CompressedConv2d(form, layer)
    raise InputError(f"layer {path!r}: expected a zero-padded Conv2d or a Linear, found a {type(layer).__name__}")


def compress_layer(net: nn.Module, path: str, form: CompressedWeight) -> None:
    """Replace the layer at ``path`` by one that stores its weight in ``form``, in place."""
    layer = net.get_submodule(path)
    set_layer(net, path, compressed_layer(form, layer, path).train(layer.training))


@torch.no_grad()
def round_weights(net: nn.Module) -> None:
    """Round the weight and bias of every compressed layer to file precision, in place.

    Raises:
        InputError: a value overflows in half precision.
    """
    for path, layer in net.named_modules():
        if isinstance(layer, CompressedLayer):
            round_layer(path, layer)


@torch.no_grad()
def round_layer(path: str, layer: CompressedLayer) -> None:
    """Round the weight and bias of one compressed layer to file precision, in place.

    Raises:
        InputError: a value overflows in half precision; the message names the layer at ``path``.
    """
    if layer.form.rounded:
        check_half_range(path, layer.parameters())
    layer.form.round_to_file_precision()
    if layer.form.rounded and layer.bias is not None:
        layer.bias.copy_(layer.bias.half().float())


def _copied(bias: torch.Tensor | None) -> Any:  # a parameter or None, which torch types as Any
    """Return a copy of the bias, because passes write into it."""
    return None if bias is None else nn.Parameter(bias.detach().clone(), bias.requires_grad)


@torch.no_grad()  # without gradients, large weights are decoded in parts
def _filled(layer: nn.Conv2d | nn.Linear, source: CompressedLayer) -> nn.Module:
    weight = source.form().detach()
    stored = {value.untyped_storage().data_ptr() for value in source.form.state_dict().values()}
    if weight.untyped_storage().data_ptr() in stored:  # most encodings decode into new memory, which needs no copy
        weight = weight.clone()
    layer.weight = nn.Parameter(weight)
    if source.bias is not None:
        layer.bias = nn.Parameter(source.bias.detach().clone())
    return layer


def plain_layer(net: nn.Module, path: str, edit: object) -> tuple[nn.Conv2d | nn.Linear, tuple[int, ...]]:
    """Return the Conv2d or Linear at ``path`` and the shape of its weight.

    Raises:
        ModelFileError: another layer, or a convolution whose padding is not given in numbers of zeros.
    """
    layer = get_layer(net, path)
    if not isinstance(layer, nn.Conv2d | nn.Linear):
        raise ModelFileError(f"{edit}: expected a Conv2d or Linear, found a {type(layer).__name__}")
    if isinstance(layer, nn.Conv2d) and (layer.padding_mode != "zeros" or isinstance(layer.padding, str)):
        raise ModelFileError(
            f"{edit}: expected zero padding given in numbers, found {layer.padding_mode!r} with padding={layer.padding!r}"
        )
    return layer, tuple(layer.weight.shape)


def scalable_tensor(layer: Any) -> torch.Tensor | None:
    """Return the tensor that can absorb a scale per output channel: the weight, or the scales of an encoding; None if neither."""
    if isinstance(layer, CompressedLayer):
        return layer.form.factors
    return layer.weight if type(layer) in (nn.Conv2d, nn.Linear) else None
