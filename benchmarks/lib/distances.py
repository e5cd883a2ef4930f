"""How far quantized weights are from the original's, and what each layer takes in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hashpress.core.layers import get_layer
from hashpress.core.model import HashModel
from hashpress.modelfile.reader import sections


def weight_errors(model: HashModel, small: HashModel) -> dict[str, float]:
    """Return the distance of every quantized weight from the original, over the original's norm."""
    found = {}
    for edit in small.edits:
        weight = get_layer(model.net, edit.layer).get_parameter("weight").detach()
        quantized: Any = get_layer(small.net, edit.layer)
        found[edit.layer] = round(float((weight - quantized.form().detach()).norm() / weight.norm()), 5)
    return found


def layer_bytes(path: Path) -> dict[str, int]:
    """Return the bytes of each quantized layer in a file, biases included."""
    found: dict[str, int] = {}
    for section in sections(path):
        layer, mark, _ = section.name.partition(".form.")
        layer = layer if mark else layer.removesuffix(".bias")
        found[layer] = found.get(layer, 0) + section.bytes
    return {layer: size for layer, size in found.items() if layer not in ("header", "manifest", "check")}
