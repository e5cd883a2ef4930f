"""Compressed layers as plain ones, for whoever does not know our forms (compilers, ONNX, other frameworks) or runs many batches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from torch import nn

from ...core.layers import set_layer
from ...core.model import HashModel
from .base import CompressedConv2d, CompressedLinear


def densified(model: HashModel) -> HashModel:
    """Return a model whose layers are all plain torch layers, with the same outputs; its edits no longer rebuild it."""
    net = model.copied_net()
    for path, layer in list(net.named_modules()):
        if isinstance(layer, CompressedConv2d | CompressedLinear):
            set_layer(net, path, layer.dense().train(layer.training))
    return replace(model, net=net)


@contextmanager
def decoded_once(net: nn.Module) -> Iterator[None]:
    """Let the layers of ``net`` that decode keep their decoded weights in this block, in which nothing else changes them."""
    coded = {
        path: layer for path, layer in net.named_modules() if isinstance(layer, CompressedConv2d | CompressedLinear)
    }
    for path, layer in coded.items():
        set_layer(net, path, layer.dense().train(layer.training))
    try:
        yield
    finally:
        for path, layer in coded.items():
            set_layer(net, path, layer)
