"""Hashed weights: each layer stores few values and a seed (HashedNets, arXiv:1504.04788; FreshNets, arXiv:1506.04449).

A structured pass: the network has to be retrained by ``finetune``, by distillation or on labels. ``start = "trained"``
initialises every bucket with its signed mean, the best approximation of the trained weight; ``"random"`` initialises at
random, as in the papers. Dense layers are hashed directly, convolutions as cosine coefficients with fewer values for
high frequencies. Storage shrinks; the time and memory of a dense layer do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from ...core.errors import RecipeError
from ...core.layers import get_layer
from ...core.model import HashModel
from ...core.progress import track
from ...core.settings import check_fields
from ...modelfile.decode.hashing import layer_seed
from ...modelfile.layers.base import round_layer
from ...modelfile.layers.hashed import Hashed
from ..base import Context, Decision, Pass
from ..select import check_keys, per_layer, skipped, weighted
from .bands import band_sizes

CHOICES = {
    "start": ("trained", "random"),
    "transform": ("cosine", "none"),
    "precision": ("float16", "float32"),
}


@dataclass(frozen=True)
class HashWeights(Pass):
    """Store a ``share`` of the values of every layer, biases included.

    ``share`` is one number or a table by layer. ``alpha`` and ``beta`` are the parameters of the beta distribution by
    which FreshNets reduces high frequencies.

    Raises:
        RecipeError: A setting is out of range.
    """

    name: ClassVar[str] = "hashed"
    phase: ClassVar[str] = "structure"
    share: float | Mapping[str, float] = 0.125
    start: str = "trained"
    transform: str = "cosine"
    alpha: float = 0.25
    beta: float = 2.5
    precision: str = "float16"
    skip: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fields("hashed", self, RecipeError)
        table = self.share if isinstance(self.share, Mapping) else {"*": self.share}
        problems = [*check_keys("hashed: share", list(table)), *check_keys("hashed: skip", self.skip)]
        problems += [
            f"hashed: share of {key!r} must be above 0 and at most 1, got {share}"
            for key, share in table.items()
            if not 0 < share <= 1
        ]
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                problems.append(f"hashed: unknown {name} {getattr(self, name)!r} (there are: {', '.join(known)})")
        problems += [
            f"hashed: {name} must be positive, got {getattr(self, name)}"
            for name in ("alpha", "beta")
            if not 0 < getattr(self, name) < float("inf")
        ]
        if problems:
            raise RecipeError(problems)

    def decide(self, model: HashModel, context: Context) -> Decision:
        """Return shape, sizes of the bucket vectors and seed of each layer, and ``skipped``: layer -> reason."""
        layers, untreated = {}, skipped(model.net)
        plain = weighted(model.net)
        for path, share in per_layer(self.share, model.net, self.skip).items():
            layer = plain[path]
            if isinstance(layer, nn.Conv2d) and isinstance(layer.padding, str):
                untreated[path] = f"padding {layer.padding!r}"
            if path in untreated:
                continue
            biases = 0 if layer.bias is None else layer.bias.numel()
            values = round(share * (layer.weight.numel() + biases)) - biases
            if values < 1:
                untreated[path] = f"its {biases} biases alone are more than a share of {share:g}"
                continue
            shape = tuple(layer.weight.shape)
            sizes = (values,)
            if len(shape) == 4 and self.transform == "cosine" and shape[2] + shape[3] > 2:
                sizes = band_sizes(shape, values, self.alpha, self.beta)
            layers[path] = {"shape": list(shape), "sizes": list(sizes), "seed": layer_seed(context.seed, path)}
        return Decision({"layers": layers, "skipped": untreated})

    def apply(self, model: HashModel, decision: Decision, context: Context) -> HashModel:
        """Return the model with hashed weights."""
        layers = decision.data["layers"]
        net, made = model.copy_net(sharing=layers), []
        for path, plan in track(layers.items(), "hashing weights", len(layers)):
            weight = get_layer(net, path).get_parameter("weight").detach()
            edit = Hashed(path, tuple(plan["shape"]), tuple(plan["sizes"]), plan["seed"], self.precision == "float16")
            edit.apply(net)
            made.append(edit)
            _fill(path, get_layer(net, path), weight if self.start == "trained" else None, plan["seed"])
        return model.edited(net, made, self.step(context.seed, left=decision.data["skipped"]))


@torch.no_grad()
def _fill(path: str, layer: Any, weight: torch.Tensor | None, seed: int) -> None:
    if weight is None:
        layer.form.draw(seed)
        if layer.bias is not None:
            layer.bias.zero_()
    else:
        layer.form.fit(weight)
    round_layer(path, layer)
