"""Conversion of compressed layers to plain torch layers, for compilers, ONNX export and evaluation of many batches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from torch import nn

from ...core.layers import set_layer
from ...core.model import HashModel
from ..edits import kind_of
from .base import CompressedConv2d, CompressedLayer, CompressedLinear


def densified(model: HashModel) -> HashModel:
    """Return a copy in which every compressed layer is a plain torch layer with the same outputs; its edits no longer match."""
    net = model.copy_net()
    for path, layer in list(net.named_modules()):
        if isinstance(layer, CompressedConv2d | CompressedLinear):
            set_layer(net, path, layer.dense().train(layer.training))
    return replace(model, net=net)


def own_encodings_only(model: HashModel) -> HashModel:
    """Return a model whose file can be decoded without code from outside of hashpress.

    Layers that an edit called ``module:Class`` compressed become plain ones, without that edit; the outputs are the same.
    """
    outside = {edit.layer for edit in model.edits if ":" in kind_of(edit) and hasattr(edit, "layer")}
    layers = {path: model.net.get_submodule(path) for path in outside}
    dense = {path: layer.dense() for path, layer in layers.items() if isinstance(layer, CompressedLayer)}
    if not dense:
        return model
    net = model.copy_net()
    for path, layer in dense.items():
        set_layer(net, path, layer)
    edits = tuple(edit for edit in model.edits if ":" not in kind_of(edit) or getattr(edit, "layer", None) not in dense)
    return replace(model, net=net, edits=edits)


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
