"""Each bit's threshold moved to where the outputs are sparsest near zero, so that few neighbours fall on its two sides.

Double-bit quantization (Kong & Li 2012, AAAI) saw that zero often lies where outputs are dense, and likely neighbours get
different bits. Here the threshold stays one number, in the bias of the hash layer: nothing is added to the network, and no
label is looked at. The bits that change change for all images: queries and database must be hashed by the same network
(what was hashed before does not fit so well), and it is not for codes that are classes, of which the largest output counts.
It may stand anywhere, also after ``int8``; best at the end, since it looks at the outputs of the network as it is. What is
found on a few thousand images is partly chance: a threshold moves only where the difference is certain.
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

PLACES = 81  # where density is asked for
ONE = 1.0  # image that a threshold has to get away from, at least


@dataclass(frozen=True)
class Thresholds(Pass):
    """Move thresholds of bits to the least dense place near zero.

    ``reach`` is how far, as a multiple of the bit's margin (the median of its outputs' sizes); density is smoothed over
    ``width`` margins, and has to be less there than at zero by ``sure`` standard errors. ``images`` training images are
    looked at. With ``flips`` at most that share of their bits changes: first those thresholds move that leave most images
    for each that changes.

    Raises:
        RecipeError: a setting is out of range.
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
        given = outputs(model, choose(split, self.images, context.seed))
        bits = track(given.T, "thresholds", model.arch.bits)
        found = [sparsest(bit, self.reach, self.width, self.sure) for bit in bits]
        if self.flips is not None:
            found = affordable(given, found, self.width, self.flips)
        flips = changed(given, found)
        moved = int(np.count_nonzero(found))
        return Decision({"thresholds": found, "moved": moved, "flips": round(float(flips.mean()), 6), "skipped": {}})

    def apply(self, model: HashModel, decision: Decision, context: Context) -> HashModel:
        """Return the model with its thresholds moved."""
        net = model.copied_net()
        if decision.data["moved"]:
            shift(hash_layer(net)[1], torch.tensor(decision.data["thresholds"], dtype=torch.float64))
        after = {key: decision.data[key] for key in ("moved", "flips")}
        return model.edited(net, [], self.step(context.seed, **after))


def hash_layer(net: nn.Module) -> tuple[str, Any]:
    """Return path and module of the layer whose outputs are the network's: the head, or the last of its parts."""
    path, layer = "head", get_layer(net, "head")
    while isinstance(layer, nn.Sequential) and len(layer):
        path, layer = f"{path}.{len(layer) - 1}", layer[-1]
    return path, layer


def sparsest(given: np.ndarray, reach: float, width: float, sure: float) -> float:
    """Return the place of least density of a bit's outputs (N,), the nearest of several; zero where it is not certain."""
    margin = margin_of(given)
    if not (0 < margin < math.inf and np.isfinite(given).all()):
        return 0.0
    places = np.linspace(-reach, reach, PLACES)
    places = places[np.argsort(np.abs(places), kind="stable")]
    relative = given.astype(np.float64) / margin
    here = nearness(relative, 0.0, width)
    found = min(places, key=lambda place: float(nearness(relative, place, width).sum()))
    gain = here - nearness(relative, found, width)
    error = float(gain.std()) * math.sqrt(len(gain))
    return float(found) * margin if gain.sum() > max(sure * error, ONE) else 0.0


def margin_of(given: np.ndarray) -> float:
    """Return the margin of a bit's outputs (N,): the median of their sizes."""
    return float(np.median(np.abs(given)))


def nearness(relative: np.ndarray, place: float, width: float) -> np.ndarray:
    """Return how near outputs (N,) in units of the margin are to ``place``, from 0 to 1."""
    return np.exp(-0.5 * np.square((relative - place) / width))


def changed(given: np.ndarray, thresholds: list[float]) -> np.ndarray:
    """Return which bits of outputs (N, bits) change when the thresholds move there from zero."""
    return (given.astype(np.float64) >= thresholds) != (given >= 0)


def affordable(given: np.ndarray, thresholds: list[float], width: float, flips: float) -> list[float]:
    """Return the thresholds (bits,) that move so that at most a share ``flips`` of all bits of outputs (N, bits) changes.

    Those come first that get away from most images for each image whose bit changes; one that is too dear is left out.
    """
    prices, left = changed(given, thresholds).sum(axis=0), flips * given.size
    worth = np.zeros(len(thresholds))
    for bit in np.flatnonzero(thresholds):
        relative = given[:, bit].astype(np.float64) / (margin := margin_of(given[:, bit]))
        gain = nearness(relative, 0.0, width) - nearness(relative, thresholds[bit] / margin, width)
        worth[bit] = gain.sum() / max(int(prices[bit]), 1)
    kept = [0.0] * len(thresholds)
    for bit in np.argsort(-worth, kind="stable"):
        if thresholds[bit] and prices[bit] <= left:
            left -= prices[bit]
            kept[bit] = thresholds[bit]
    return kept


@torch.no_grad()
def shift(layer: Any, thresholds: torch.Tensor) -> None:
    """Take ``thresholds`` (bits,) off the outputs of a dense layer, in place, as exactly as the file keeps its bias."""
    if isinstance(layer, Int8Linear):
        whole = torch.round(thresholds / layer.multiplier.double())
        put_bias(layer, layer.bias - whole.to(layer.bias.dtype))
    else:
        layer.bias -= thresholds.to(layer.bias.dtype)
        round_weights(layer)
