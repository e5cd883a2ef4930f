"""The edits of layers that compute by their own arithmetic: hashed weights, Fastfood, product quantization."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from ..core.errors import ModelFileError
from ..core.layers import get_layer, set_layer
from .layers import fastfood, hashed, pq
from .layers.decoded import DecodedConv2d

MAX_ENTRIES = 1 << 15


@dataclass(frozen=True)
class Hashed:
    """The weight of ``layer``, of ``shape``, is drawn by hashing from one vector of values or one for each frequency."""

    kind: ClassVar[str] = "hashed"
    layer: str
    shape: tuple[int, ...]
    sizes: tuple[int, ...]
    seed: int
    half: bool = True  # values and bias are kept in binary16

    def apply(self, net: nn.Module) -> None:
        """Put a hashing layer in the plain one's place."""
        layer, shape = _plain(net, self.layer, self)
        bands = {1} if len(shape) == 2 else {1, shape[2] + shape[3] - 1}
        if self.shape != shape or len(self.sizes) not in bands or not all(0 < size < 1 << 31 for size in self.sizes):
            raise ModelFileError(f"{self}: the layer's weight is of shape {shape}")
        if not 0 <= self.seed < 1 << 32:
            raise ModelFileError(f"{self}: a seed has 32 bits")
        form = hashed.Hashed(shape, self.sizes, self.seed, half=self.half)
        new = hashed.HashedLinear(form, layer) if isinstance(layer, nn.Linear) else DecodedConv2d(form, layer)
        set_layer(net, self.layer, new.train(layer.training))


@dataclass(frozen=True)
class Fastfooded:
    """The dense ``layer`` is a product of three diagonals and two Walsh-Hadamard transforms."""

    kind: ClassVar[str] = "fastfood"
    layer: str
    seed: int
    half: bool = True  # diagonals and bias are kept in binary16

    def apply(self, net: nn.Module) -> None:
        """Put a layer of transforms in the plain one's place."""
        layer, _ = _plain(net, self.layer, self)
        if not isinstance(layer, nn.Linear):
            raise ModelFileError(f"{self}: this layer is a {type(layer).__name__}, a Linear was expected")
        if not 0 <= self.seed < 1 << 32:
            raise ModelFileError(f"{self}: a seed has 32 bits")
        form = fastfood.Fastfood(layer.out_features, layer.in_features, self.seed, half=self.half)
        set_layer(net, self.layer, fastfood.FastfoodLinear(form, layer).train(layer.training))


@dataclass(frozen=True)
class ProductQuantized:
    """The weight of ``layer`` is made of codewords of ``width`` of its ``inputs``, ``entries`` for every subspace."""

    kind: ClassVar[str] = "pq"
    layer: str
    inputs: int
    width: int
    entries: int
    permuted: bool = False  # channels stand in an order of the form's own
    half: bool = True  # codewords and bias are kept in binary16

    def apply(self, net: nn.Module) -> None:
        """Put a layer of look-ups in the plain one's place."""
        layer, shape = _plain(net, self.layer, self)
        if self.inputs != shape[1] or not 1 <= self.width <= shape[1] or not 1 <= self.entries <= MAX_ENTRIES:
            raise ModelFileError(f"{self}: the layer's weight is of shape {shape}")
        form = pq.Product(shape, self.width, self.entries, permuted=self.permuted, half=self.half)
        new = pq.ProductLinear(form, layer) if isinstance(layer, nn.Linear) else pq.ProductConv2d(form, layer)
        set_layer(net, self.layer, new.train(layer.training))


def _plain(net: nn.Module, path: str, edit: object) -> tuple[nn.Conv2d | nn.Linear, tuple[int, ...]]:
    """Return the plain layer at ``path`` and the shape of its weight."""
    layer = get_layer(net, path)
    if not isinstance(layer, nn.Conv2d | nn.Linear):
        raise ModelFileError(f"{edit}: this layer is a {type(layer).__name__}, a Conv2d or Linear was expected")
    if isinstance(layer, nn.Conv2d) and (layer.padding_mode != "zeros" or isinstance(layer.padding, str)):
        raise ModelFileError(f"{edit}: this convolution pads with {layer.padding_mode!r} or by name, zeros are needed")
    return layer, tuple(layer.weight.shape)
