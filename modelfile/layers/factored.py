"""Factorized layers: a chain of plain layers that replaces one layer, as written by the low-rank passes.

=============  ===================================================  =================
form           layers                                               ranks
=============  ===================================================  =================
``cp4``        1x1, kx1 depthwise, 1xk depthwise, 1x1               (R,)
``cp3``        1x1, kxk depthwise, 1x1                              (R,)
``tucker2``    1x1, kxk, 1x1                                        (outputs, inputs)
``lowrank``    kxk with few filters, 1x1 (dense layers: two)        (filters,)
``lowrank3d``  kx1, 1xk, 1x1                                        (between, filters)
=============  ===================================================  =================

Stride, padding and dilation of an axis belong to the layer whose kernel spans this axis; the bias belongs to the last
layer. The ranks of a grouped convolution are per group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from ...core.errors import InputError, ModelFileError, lookup
from ...core.layers import get_layer, set_layer

Ranks = tuple[int, ...]
MAX_RANK = 1 << 16
BOTH, ROWS, COLUMNS, POINT = (True, True), (True, False), (False, True), (False, False)


@torch.random.fork_rng(devices=[])  # the initial values are discarded and must not advance the global generator
def chain(layer: nn.Conv2d | nn.Linear, form: str, ranks: Ranks, *, bias: bool) -> nn.Sequential:
    """Return the layers of ``form`` for ``layer``, with arbitrary values, on its device and in its dtype.

    Raises:
        InputError: the form is unknown, or does not support the ranks or the layer.
    """
    maker, count = lookup(FORMS, form, "form of a factored layer")
    if len(ranks) != count or not all(1 <= rank <= MAX_RANK for rank in ranks):
        raise InputError(f"form {form!r}: expected {count} ranks from 1 to {MAX_RANK}, found {list(ranks)}")
    if isinstance(layer, nn.Linear):
        if form != "lowrank":
            raise InputError(f"form {form!r}: expected a convolution, found a Linear; use 'lowrank'")
        where: dict[str, Any] = {"device": layer.weight.device, "dtype": layer.weight.dtype}
        first = nn.Linear(layer.in_features, ranks[0], bias=False, **where)
        return nn.Sequential(first, nn.Linear(ranks[0], layer.out_features, bias=bias, **where))
    if not isinstance(layer, nn.Conv2d) or layer.padding_mode != "zeros":
        raise InputError(f"form {form!r}: expected a zero-padded Conv2d, found a {type(layer).__name__}")
    return nn.Sequential(*maker(layer, ranks, bias))


def _part(
    layer: nn.Conv2d, inputs: int, outputs: int, axes: tuple[bool, bool], groups: int, *, bias: bool
) -> nn.Conv2d:
    """Return a convolution with the kernel size of ``layer`` along the given axes and 1 along the others."""

    def along(values: Sequence[int], other: int) -> tuple[int, int]:
        first, second = (value if spans else other for value, spans in zip(values, axes, strict=True))
        return first, second

    padding = layer.padding if isinstance(layer.padding, str) else along(layer.padding, 0)
    return nn.Conv2d(
        inputs, outputs, along(layer.kernel_size, 1), along(layer.stride, 1), padding, along(layer.dilation, 1),
        groups, bias=bias, device=layer.weight.device, dtype=layer.weight.dtype,
    )  # fmt: skip


def _cp4(layer: nn.Conv2d, ranks: Ranks, bias: bool) -> list[nn.Conv2d]:
    groups, wide = layer.groups, layer.groups * ranks[0]
    return [
        _part(layer, layer.in_channels, wide, POINT, groups, bias=False),
        _part(layer, wide, wide, ROWS, wide, bias=False),
        _part(layer, wide, wide, COLUMNS, wide, bias=False),
        _part(layer, wide, layer.out_channels, POINT, groups, bias=bias),
    ]


def _cp3(layer: nn.Conv2d, ranks: Ranks, bias: bool) -> list[nn.Conv2d]:
    groups, wide = layer.groups, layer.groups * ranks[0]
    return [
        _part(layer, layer.in_channels, wide, POINT, groups, bias=False),
        _part(layer, wide, wide, BOTH, wide, bias=False),
        _part(layer, wide, layer.out_channels, POINT, groups, bias=bias),
    ]


def _tucker2(layer: nn.Conv2d, ranks: Ranks, bias: bool) -> list[nn.Conv2d]:
    groups = layer.groups
    return [
        _part(layer, layer.in_channels, groups * ranks[1], POINT, groups, bias=False),
        _part(layer, groups * ranks[1], groups * ranks[0], BOTH, groups, bias=False),
        _part(layer, groups * ranks[0], layer.out_channels, POINT, groups, bias=bias),
    ]


def _lowrank(layer: nn.Conv2d, ranks: Ranks, bias: bool) -> list[nn.Conv2d]:
    groups = layer.groups
    return [
        _part(layer, layer.in_channels, groups * ranks[0], BOTH, groups, bias=False),
        _part(layer, groups * ranks[0], layer.out_channels, POINT, groups, bias=bias),
    ]


def _lowrank3d(layer: nn.Conv2d, ranks: Ranks, bias: bool) -> list[nn.Conv2d]:
    groups = layer.groups
    return [
        _part(layer, layer.in_channels, groups * ranks[0], ROWS, groups, bias=False),
        _part(layer, groups * ranks[0], groups * ranks[1], COLUMNS, groups, bias=False),
        _part(layer, groups * ranks[1], layer.out_channels, POINT, groups, bias=bias),
    ]


FORMS: dict[str, tuple[Callable[[nn.Conv2d, Ranks, bool], list[nn.Conv2d]], int]] = {
    "cp4": (_cp4, 1),
    "cp3": (_cp3, 1),
    "tucker2": (_tucker2, 2),
    "lowrank": (_lowrank, 1),
    "lowrank3d": (_lowrank3d, 2),
}


@torch.no_grad()
def fill(layers: Any, weights: Sequence[Sequence[np.ndarray]], bias: np.ndarray | None) -> None:
    """Set the weights of a chain, given per layer and group, and the bias of its last layer.

    A matrix becomes a 1x1 kernel; of a depthwise layer a matrix (R, places) its kernels.
    """
    for layer, groups in zip(layers, weights, strict=True):
        whole = (groups[0] if len(groups) == 1 else np.concatenate(groups)).reshape(tuple(layer.weight.shape))
        layer.weight.copy_(torch.from_numpy(np.ascontiguousarray(whole)))
    if bias is not None:
        layers[-1].bias.copy_(torch.from_numpy(np.ascontiguousarray(bias)))


def group_kernels(layer: nn.Conv2d | nn.Linear) -> list[np.ndarray]:
    """Return the weight of each group as float64 (O / groups, I / groups, kH, kW); one array (O, I) for a Linear."""
    weight = layer.weight.detach().double().cpu().numpy()
    return np.split(weight, getattr(layer, "groups", 1))


@dataclass(frozen=True)
class Factored:
    """The edit that replaces ``layer`` by a chain of smaller ones; ``form`` and ``ranks`` as in the table of this module."""

    kind: ClassVar[str] = "factored"
    layer: str
    form: str
    ranks: tuple[int, ...]
    bias: bool = False  # the chain has a bias even if the layer had none

    def apply(self, net: nn.Module) -> None:
        """Replace the layer by the chain."""
        layer = get_layer(net, self.layer)
        if not isinstance(layer, nn.Conv2d | nn.Linear):
            raise ModelFileError(f"{self}: expected a Conv2d or Linear, found a {type(layer).__name__}")
        made = chain(layer, self.form, self.ranks, bias=self.bias or layer.bias is not None)
        set_layer(net, self.layer, made.train(layer.training))
