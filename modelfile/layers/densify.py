"""Conversion of compressed layers to plain torch layers, for compilers, ONNX export and evaluation of many batches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from torch import nn

from ...core.layers import set_layer
from ...core.model import HashModel
from .base import CompressedConv2d, CompressedLinear


def densified(model: HashModel) -> HashModel:
    """Return a copy in which every compressed layer is a plain torch layer with the same outputs; its edits no longer match."""
    net = model.copied_net()
    for path, layer in list(net.named_modules()):
        if isinstance(layer, CompressedConv2d | CompressedLinear):
            set_layer(net, path, layer.dense().train(layer.training))
    return replace(model, net=net)


@contextmanager
def decoded_once(net: nn.Module) -> Iterator[None]:
    """Replace the compressed layers of ``net`` by dense ones inside the block; their weights must not change in it."""
    compressed = {
        path: layer for path, layer in net.named_modules() if isinstance(layer, CompressedConv2d | CompressedLinear)
    }
    for path, layer in compressed.items():
        set_layer(net, path, layer.dense().train(layer.training))
    try:
        yield
    finally:
        for path, layer in compressed.items():
            set_layer(net, path, layer)
