"""Compressed layers as plain ones, for whoever does not know our forms: compilers, ONNX, other frameworks."""

from __future__ import annotations

from dataclasses import replace

from ...core.model import HashModel
from ...core.surgery import set_layer
from .decoded import DecodedConv2d, DecodedLinear


def densified(model: HashModel) -> HashModel:
    """Return a model whose layers are all plain torch layers, with the same outputs; its edits no longer rebuild it."""
    net = model.copied_net()
    for path, layer in list(net.named_modules()):
        if isinstance(layer, DecodedConv2d | DecodedLinear):
            set_layer(net, path, layer.dense().train(layer.training))
    return replace(model, net=net)
