"""Adaptive Fastfood layers in place of dense layers: O(d) storage, O(d log d) work (Deep Fried Convnets, arXiv:1412.7149).

A structured pass: three diagonals have too few parameters to be fitted to a trained matrix, so they are initialised at
random and ``finetune`` trains the whole network, by distillation or on labels. Convolutions are skipped. ``head``, the
hash layer, is small and is skipped by default.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from ...core.errors import RecipeError
from ...core.layers import get_layer
from ...core.model import HashModel
from ...core.progress import track
from ...core.settings import check_fields
from ...modelfile.decode.hadamard import padded_size
from ...modelfile.decode.hashing import layer_seed
from ...modelfile.layers.base import round_layer
from ...modelfile.layers.fastfood import Fastfooded
from ..base import Context, Decision, Pass
from ..select import check_keys, per_layer, skipped, weighted

PRECISIONS = ("float16", "float32")


@dataclass(frozen=True)
class Fastfood(Pass):
    """Replace every dense layer that becomes smaller by a Fastfood layer.

    Raises:
        RecipeError: A setting is out of range.
    """

    name: ClassVar[str] = "fastfood"
    phase: ClassVar[str] = "structure"
    precision: str = "float16"
    skip: tuple[str, ...] = ("head",)

    def __post_init__(self) -> None:
        check_fields("fastfood", self, RecipeError)
        problems = check_keys("fastfood: skip", self.skip)
        if self.precision not in PRECISIONS:
            problems.append(f"fastfood: unknown precision {self.precision!r} (there are: {', '.join(PRECISIONS)})")
        if problems:
            raise RecipeError(problems)

    def decide(self, model: HashModel, context: Context) -> Decision:
        """Return length, blocks, values and seed of each layer, and ``skipped``: layer -> reason."""
        layers, untreated = {}, skipped(model.net)
        plain = weighted(model.net)
        for path in per_layer(True, model.net, self.skip):  # the value of every layer
            layer = plain[path]
            if not isinstance(layer, nn.Linear):
                untreated.setdefault(path, "a convolution, and Fastfood replaces dense layers")
                continue
            size = padded_size(layer.in_features)
            blocks = -(-layer.out_features // size)
            values = layer.out_features + blocks * (size + layer.in_features)
            if values >= layer.weight.numel():
                untreated[path] = f"{values} values would replace {layer.weight.numel()}"
                continue
            layers[path] = {"length": size, "blocks": blocks, "values": values, "seed": layer_seed(context.seed, path)}
        return Decision({"layers": layers, "skipped": untreated})

    def apply(self, model: HashModel, decision: Decision, context: Context) -> HashModel:
        """Return the model with randomly initialised Fastfood layers and zero biases."""
        layers = decision.data["layers"]
        net, made = model.copy_net(sharing=layers), []
        for path, plan in track(layers.items(), "Fastfood layers", len(layers)):
            edit = Fastfooded(path, plan["seed"], self.precision == "float16")
            edit.apply(net)
            made.append(edit)
            layer: Any = get_layer(net, path)
            layer.form.draw(plan["seed"])
            if layer.bias is not None:
                with torch.no_grad():
                    layer.bias.zero_()
            round_layer(path, layer)
        return model.edited(net, made, self.step(context.seed, left=decision.data["skipped"]))
