"""Temporary batch norms during training, folded into the layers afterwards (Ioffe & Szegedy 2015, arXiv:1502.03167).

``fold`` removes the norms of a network before its convolutions are decomposed. The result has more layers than before
and nothing that normalises their outputs, so it trains slower. The same holds for Fastfood layers, which start at
random: their norm is folded into the last diagonal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm

from ...core.data.items import Items
from ...core.inputs import Input
from ...core.layers import get_layer
from ...modelfile.layers.fastfood import FastfoodLinear
from ..fold import take_in, uses
from ..observe.hooks import calls, hooks
from ..observe.runner import observe

IMAGES = 1024  # images for the initial statistics
TOGETHER, VALUES = 128, 128 * 3 * 64 * 64  # images that run together: at most so many, with so many values


def norm_positions(net: nn.Module, spec: Input) -> list[str]:
    """Return the plain convolutions and Fastfood layers after which a batch norm can be added and folded again.

    They run once, have a bias and share no parameters; convolutions have several output positions per image.
    """
    owners = uses(net)
    known = {path: layer for path, layer in net.named_modules() if type(layer) in (nn.Conv2d, FastfoodLinear)}
    ran = calls(net, known, spec)
    runs = Counter(path for path, _ in ran)
    wide = {path for path, shape in ran if shape[2:].numel() > 1 or type(known[path]) is FastfoodLinear}
    return [
        path
        for path, layer in known.items()
        if runs[path] == 1
        and path in wide
        and layer.bias is not None
        and all(owners[value.data_ptr()] == 1 for value in layer.parameters())
    ]


class _Rows(nn.BatchNorm1d):
    """A batch norm of rows (..., O); a single row has no variance and is normalised by the running statistics."""

    def forward(self, rows: Tensor) -> Tensor:
        """Return (..., O)."""
        flat = rows.flatten(0, -2)
        if len(flat) > 1:
            return super().forward(flat).view_as(rows)
        return batch_norm(flat, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps).view_as(rows)


@contextmanager
def with_temporary_norms(net: nn.Module, images: Items, spec: Input, *, seed: int = 0) -> Iterator[list[str]]:
    """Add a batch norm after each layer of :func:`norm_positions`, in place, and fold it into the layer at the end.

    Neither changes the outputs of the network. Yields the paths of the layers.
    """
    chosen = images.take(np.sort(np.random.default_rng(seed).permutation(len(images))[:IMAGES]))
    statistics = _statistics(net, norm_positions(net.eval(), spec), chosen, spec)
    layers: dict[str, Any] = {}
    for path, (mean, variance) in statistics.items():
        layer: Any = get_layer(net, path)
        norm = (nn.BatchNorm2d if isinstance(layer, nn.Conv2d) else _Rows)(len(mean), dtype=mean.dtype)
        with torch.no_grad():
            norm.running_mean.copy_(mean)  # type: ignore[union-attr]  # there, as statistics are tracked
            norm.running_var.copy_(variance)  # type: ignore[union-attr]
            norm.weight.copy_((variance + norm.eps).sqrt())
            norm.bias.copy_(mean)
        layer.add_module("norm", norm)  # a part of the layer, so it is trained, saved and stepped as all parts are
        layers[path] = layer
    try:
        with hooks(layers, after=lambda _path, layer, _inputs, output: layer.norm(output)):
            yield list(statistics)
    finally:
        for layer in layers.values():
            take_in(layer, layer.norm)
            del layer.norm


@torch.no_grad()
def _statistics(net: nn.Module, paths: list[str], images: Items, spec: Input) -> dict[str, tuple[Tensor, Tensor]]:
    """Return mean and variance (O,) of the outputs of layers over all images and positions or rows, in batches."""
    counts: Counter[str] = Counter()
    sums: dict[str, tuple[Tensor, Tensor]] = {}  # of values and squares

    def add(path: str, _inputs: Tensor, output: Tensor) -> None:
        channels = -1 if isinstance(get_layer(net, path), FastfoodLinear) else 1
        values = output.movedim(channels, 0).flatten(1).double()
        counts[path] += values.shape[1]
        one, two = sums.get(path, (0.0, 0.0))
        sums[path] = one + values.sum(1), two + values.square_().sum(1)

    taps = {path: partial(add, path) for path in paths}
    observe(net, spec, images.values, taps, what="norms", batch=TOGETHER, values=VALUES)
    found = {}
    for path, (one, two) in sums.items():
        layer: Any = get_layer(net, path)
        mean, kind = one / counts[path], layer.bias.dtype
        found[path] = mean.to(kind), (two / counts[path] - mean.square()).clamp_min(0).to(kind)
    return found
