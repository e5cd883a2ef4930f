"""Fewer channels: whole filters are taken out of every layer that shares them, so that what is left is a dense network.

Between ``fold`` and ``finetune``; a structural pass. Channels that reach the hash outputs stay, as do those of grouped
convolutions, of layers called twice and of whatever cannot be followed (the ledger says why).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from torch import nn

from ...core.data.items import Items
from ...core.errors import RecipeError
from ...core.layers import get_layer
from ...core.model import HashModel
from ...core.settings import check_fields
from ..base import Context, Decision, Pass
from ..select import check_keys, check_matched, pick, skipped, weighted, words_of
from .graph import Channels, channels
from .least_squares import refit
from .removal import by_macs, by_ratio, cut, frozen_reasons, widths_left
from .scores import SCORES


@dataclass(frozen=True)
class Narrow(Pass):
    """Remove the channels with the lowest scores.

    ``ratio`` is the share that goes, the same in every group of channels that stand together; ``macs`` is the share of
    multiplications to keep instead, and where they go is then decided by score for multiplication over the whole
    network. ``score`` is ``l1``, ``l2``, ``bn``, ``taylor`` or ``code`` (expected bit flips). Widths become multiples of
    ``multiple``, the target's vector length, and stay above the share ``least``. ``images`` training images are looked
    at; with ``refit`` the layers behind the cut are fitted to their old outputs by least squares on them.

    Raises:
        RecipeError: a setting is out of range.
    """

    name: ClassVar[str] = "narrow"
    phase: ClassVar[str] = "structure"
    keeps_layer_names: ClassVar[bool] = True
    selects_compressed_layers: ClassVar[bool] = True
    without_images: ClassVar[str] = "refit = false, and score to 'l1', 'l2' or 'bn'"
    ratio: float | None = None
    macs: float | None = None
    score: str = "l2"
    multiple: int = 1
    least: float = 0.1
    skip: tuple[str, ...] = ()
    images: int = 256
    refit: bool = False

    def __post_init__(self) -> None:
        check_fields("narrow", self, RecipeError)
        problems = [*check_keys("narrow: skip", self.skip)]
        if (self.ratio is None) == (self.macs is None):
            problems.append("narrow: give either ratio or macs")
        if self.ratio is not None and not 0 <= self.ratio < 1:
            problems.append(f"narrow: ratio must be in [0, 1), got {self.ratio}")
        if self.macs is not None and not 0 < self.macs <= 1:
            problems.append(f"narrow: macs must be in (0, 1], got {self.macs}")
        if self.score not in SCORES:
            problems.append(f"narrow: unknown score {self.score!r} (there are: {', '.join(SCORES)})")
        if self.multiple < 1 or self.images < 1:
            problems.append("narrow: multiple and images must be at least 1")
        if not 0 <= self.least <= 1:
            problems.append(f"narrow: least must be in [0, 1], got {self.least}")
        if problems:
            raise RecipeError(problems)

    @property
    def needs_images(self) -> bool:
        """Whether training images are needed: for scores that are measured, and to refit."""
        return self.refit or self.score in ("taylor", "code")

    def decide(self, model: HashModel, context: Context) -> Decision:
        """Return ``widths``: layer -> channels before and after, and ``skipped``: layer -> reason."""
        found, removed = self._removed(model, context)
        untreated = {**unfollowed(model.net, found), **frozen_reasons(found)}
        return Decision({"widths": widths_left(found, removed), "skipped": untreated}, (found, removed))

    def _removed(self, model: HashModel, context: Context) -> tuple[Channels, np.ndarray]:
        """Return all channels, and the ids of those that are removed."""
        found = self._without_skipped(channels(model), model.net)
        if not found.layers:
            return found, np.zeros(0, dtype=np.int64)
        train = None if context.split is None else context.split.train
        images = None if train is None else train.take(places(train, self.images, context.seed))
        scores = SCORES[self.score](model, found, images, context.seed)
        if self.ratio is not None:
            return found, by_ratio(found, scores, self.ratio, multiple=self.multiple, least=self.least)
        return found, by_macs(found, scores, float(self.macs or 1), multiple=self.multiple, least=self.least)

    def apply(self, model: HashModel, decision: Decision, context: Context) -> HashModel:
        """Return the thinner model."""
        found, removed = decision.plan
        net = model.copied_net(sharing=thinner(found, removed))
        edits = cut(net, found, removed)
        model.unshared(net)  # what is tied to a weight that was cut was not
        if self.refit:
            train = context.training_split(self).train
            pixels = train.select(places(train, self.images, context.seed))
            refit(net, model.net, thinner(found, removed), pixels, model.arch.input, seed=context.seed)
        return model.edited(net, edits, self.step(context.seed, widths=decision.data["widths"]))

    def _without_skipped(self, found: Channels, net: nn.Module) -> Channels:
        table, frozen = dict.fromkeys(self.skip, True), dict(found.frozen)
        first = next((path for path, layer in found.layers.items() if layer.produces), "")
        if found.layers:
            names = dict.fromkeys((*weighted(net), *(path for path, layer in found.layers.items() if layer.produces)))
            check_matched(self.skip, {path: words_of(path, get_layer(net, path), first) for path in names})
        for path, layer in found.layers.items():
            if layer.produces and pick(table, path, words_of(path, get_layer(net, path), first)):
                frozen |= dict.fromkeys(layer.outputs.tolist(), "is skipped")
        return replace(found, frozen=frozen)


def unfollowed(net: nn.Module, found: Channels) -> dict[str, str]:
    """Return why layers with parameters of which no channels are known are left alone."""
    if not found.layers:
        return {}
    reasons = dict.fromkeys(weighted(net), "is not called as a layer of its own") | found.unfollowed | skipped(net)
    return {path: why for path, why in reasons.items() if path not in found.layers}


def thinner(found: Channels, removed: np.ndarray) -> dict[str, np.ndarray]:
    """Return the layers that lose inputs but mix channels, with the outputs they keep."""
    return {
        path: np.flatnonzero(~np.isin(layer.outputs, removed))
        for path, layer in found.layers.items()
        if layer.produces and np.isin(layer.inputs, removed).any()
    }


def places(images: Items, count: int, seed: int) -> np.ndarray:
    """Return the places of ``count`` images, drawn once, or of all."""
    if count >= len(images):
        return np.arange(len(images))
    return np.sort(np.random.default_rng(seed).choice(len(images), count, replace=False))
