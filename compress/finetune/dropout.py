"""Reduced dropout while pruned networks are retrained (Han et al. 2015, arXiv:1506.02626, section 3.2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from ...core.inputs import Input
from ...core.layers import get_layer
from ...modelfile.layers.base import CompressedConv2d, CompressedLinear
from ..observe.hooks import calls

KINDS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout)
READERS = (nn.Conv2d, nn.Linear, CompressedConv2d, CompressedLinear)


def dropout_rates(net: nn.Module, masks: Mapping[str, Tensor], spec: Input) -> dict[str, float]:
    """Return the reduced rate of every dropout before a pruned layer: its own times the root of the remaining share of weights.

    ``masks`` are the masks of remaining weights by layer. A dropout belongs to the layer that runs next.
    """
    own = {path: layer.p for path, layer in net.named_modules() if isinstance(layer, KINDS) and layer.p > 0}
    if not own or not masks:
        return {}
    weighted = [path for path, layer in net.named_modules() if isinstance(layer, READERS)]
    found: dict[str, float] = {}
    waiting: list[str] = []
    was_training = net.training
    net.eval()
    ran = calls(net, [*own, *weighted], spec)
    net.train(was_training)
    for path, _ in ran:
        if path in own:
            waiting.append(path)
            continue
        if path in masks:
            left = float(masks[path].float().mean())
            found |= {dropout: round(own[dropout] * left**0.5, 6) for dropout in waiting}
        waiting = []
    return found


@contextmanager
def reduced_dropout(net: nn.Module, masks: Mapping[str, Tensor], spec: Input) -> Iterator[None]:
    """Reduce the rates of dropouts before pruned layers in this block."""
    found = dropout_rates(net, masks, spec)
    layers: dict[str, Any] = {path: get_layer(net, path) for path in found}
    before = {path: layer.p for path, layer in layers.items()}
    for path, layer in layers.items():
        layer.p = found[path]
    try:
        yield
    finally:
        for path, layer in layers.items():
            layer.p = before[path]
