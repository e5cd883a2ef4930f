"""Bit thresholds moved to the least dense outputs near zero (after double-bit quantization, Kong & Li 2012, AAAI).

Kong & Li observed that zero often lies where the outputs are dense, so that likely neighbours get different bits. Here
the threshold of a bit stays a single number, the bias of the hash layer: nothing is added to the network and no labels
are used. Bits change for all images, so queries and database have to be hashed by the same network; codes computed
before fit less well. Not for codes that are classes, of which the largest output counts. It may stand anywhere, also
after ``int8``, and is best last, since it uses the outputs of the network as it is. An estimate from a few thousand
images is noisy: a threshold moves only if the difference is significant.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from ..core.errors import RecipeError
from ..core.layers import get_layer
from ..core.model import HashModel
from ..core.progress import track
from ..core.settings import check_fields
from ..hashnets.retrieval.codes import outputs
from ..modelfile.layers.base import round_weights
from ..modelfile.layers.int8 import Int8Linear, put_bias
from .base import Context, Decision, Pass
from .observe.sampling import choose

PLACES = 81  # candidate thresholds
ONE = 1.0  # least gain, in images


@dataclass(frozen=True)
class Thresholds(Pass):
    """Move the thresholds of bits to the least dense point near zero.

    ``reach`` is the largest move, as a multiple of the margin of the bit (the median of its absolute outputs). The
    density is smoothed over ``width`` margins and has to be lower than at zero by ``sure`` standard errors. It is
    estimated on ``images`` training images. With ``flips``, at most this share of their bits changes; thresholds that
    move away from the most images per changed bit go first.

    Raises:
        RecipeError: A setting is out of range.
    """

    name: ClassVar[str] = "thresholds"
    phase: ClassVar[str] = "code"
    keeps_layer_names: ClassVar[bool] = True
    reach: float = 0.2
    width: float = 0.1
    sure: float = 4.0
    images: int = 4096
    flips: float | None = None

    def __post_init__(self) -> None:
        check_fields("thresholds", self, RecipeError)
        problems = []
        if not 0 <= self.reach <= 1:
            problems.append(f"thresholds: reach must be 0 to 1 margins, got {self.reach}")
        if not 0 < self.width < math.inf:
            problems.append(f"thresholds: width must be positive, got {self.width}")
        if not 0 <= self.sure < math.inf:
            problems.append(f"thresholds: sure must be at least 0, got {self.sure}")
        if self.images < 1:
            problems.append(f"thresholds: images must be at least 1, got {self.images}")
        if self.flips is not None and not 0 <= self.flips <= 1:
            problems.append(f"thresholds: flips must be a share from 0 to 1, got {self.flips}")
        if problems:
            raise RecipeError(problems)

    @property
    def needs_images(self) -> bool:
        """Whether training images are needed: always."""
        return True

    def decide(self, model: HashModel, context: Context) -> Decision:
        """Return ``thresholds`` of all bits; ``moved``, how many; ``flips``, the share of training bits that change; ``skipped``."""
        split = context.training_split(self)
        path, layer = hash_layer(model.net)
        if getattr(layer, "bias", None) is None:
            reason = f"a {type(layer).__name__} without bias: nothing holds a threshold"
            return Decision({"thresholds": [], "moved": 0, "flips": 0.0, "skipped": {path: reason}})
        values = outputs(model, choose(split, self.images, context.seed))
        bits = track(values.T, "thresholds", model.arch.bits)
        moves = [sparsest(bit, self.reach, self.width, self.sure) for bit in bits]
        if self.flips is not None:
            moves = affordable(values, moves, self.width, self.flips)
        flips = changed(values, moves)
        moved = int(np.count_nonzero(moves))
        return Decision({"thresholds": moves, "moved": moved, "flips": round(float(flips.mean()), 6), "skipped": {}})

    def apply(self, model: HashModel, decision: Decision, context: Context) -> HashModel:
        """Return the model with its thresholds moved."""
        net = model.copy_net()
        if decision.data["moved"]:
            shift(hash_layer(net)[1], torch.tensor(decision.data["thresholds"], dtype=torch.float64))
        after = {key: decision.data[key] for key in ("moved", "flips")}
        return model.edited(net, [], self.step(context.seed, **after))


def hash_layer(net: nn.Module) -> tuple[str, Any]:
    """Return path and module of the layer that computes the outputs: the head, or its last submodule."""
    path, layer = "head", get_layer(net, "head")
    while isinstance(layer, nn.Sequential) and len(layer):
        path, layer = f"{path}.{len(layer) - 1}", layer[-1]
    return path, layer


def sparsest(values: np.ndarray, reach: float, width: float, sure: float) -> float:
    """Return the point of least density of the outputs (N,) of a bit, the nearest of several, or zero if not significant."""
    margin = margin_of(values)
    if not (0 < margin < math.inf and np.isfinite(values).all()):
        return 0.0
    places = np.linspace(-reach, reach, PLACES)
    places = places[np.argsort(np.abs(places), kind="stable")]
    relative = values.astype(np.float64) / margin
    here = nearness(relative, 0.0, width)
    best = min(places, key=lambda place: float(nearness(relative, place, width).sum()))
    gain = here - nearness(relative, best, width)
    error = float(gain.std()) * math.sqrt(len(gain))
    return float(best) * margin if gain.sum() > max(sure * error, ONE) else 0.0


def margin_of(values: np.ndarray) -> float:
    """Return the margin of a bit: the median of its absolute outputs (N,)."""
    return float(np.median(np.abs(values)))


def nearness(relative: np.ndarray, place: float, width: float) -> np.ndarray:
    """Return the Gaussian weight, from 0 to 1, of outputs (N,), in units of the margin, around ``place``."""
    return np.exp(-0.5 * np.square((relative - place) / width))


def changed(values: np.ndarray, thresholds: list[float]) -> np.ndarray:
    """Return which bits of outputs (N, bits) change if the thresholds move from zero to ``thresholds``."""
    return (values.astype(np.float64) >= thresholds) != (values >= 0)


def affordable(values: np.ndarray, thresholds: list[float], width: float, flips: float) -> list[float]:
    """Return the thresholds (bits,), reset to zero where needed so that at most a share ``flips`` of all bits (N, bits) changes.

    Thresholds that move away from the most images per changed bit go first; those that would exceed the share are
    skipped.
    """
    prices, remaining = changed(values, thresholds).sum(axis=0), flips * values.size
    worth = np.zeros(len(thresholds))
    for bit in np.flatnonzero(thresholds):
        relative = values[:, bit].astype(np.float64) / (margin := margin_of(values[:, bit]))
        gain = nearness(relative, 0.0, width) - nearness(relative, thresholds[bit] / margin, width)
        worth[bit] = gain.sum() / max(int(prices[bit]), 1)
    affordable_moves = [0.0] * len(thresholds)
    for bit in np.argsort(-worth, kind="stable"):
        if thresholds[bit] and prices[bit] <= remaining:
            remaining -= prices[bit]
            affordable_moves[bit] = thresholds[bit]
    return affordable_moves


@torch.no_grad()
def shift(layer: Any, thresholds: torch.Tensor) -> None:
    """Subtract ``thresholds`` (bits,) from the outputs of a dense layer, in place, at the precision of its stored bias."""
    if isinstance(layer, Int8Linear):
        whole = torch.round(thresholds / layer.multiplier.double())
        put_bias(layer, layer.bias - whole.to(layer.bias.dtype))
    else:
        layer.bias -= thresholds.to(layer.bias.dtype)
        round_weights(layer)
