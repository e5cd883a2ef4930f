"""Structured pruning of filters: whole channels are removed from all layers that share them (Li et al. 2017, arXiv:1608.08710).

A structured pass between ``fold`` and ``finetune``; the result is a smaller dense network. Channels that reach the hash
outputs are not removed, nor are those of grouped convolutions, of layers that are called twice, and of unsupported
operations (the ledger has the reasons).
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
from ..select import check_keys, check_matched, keywords_of, pick, skipped, weighted
from .graph import Channels, channels
from .least_squares import refit
from .removal import by_macs, by_ratio, cut, frozen_reasons, widths_left
from .scores import SCORES


@dataclass(frozen=True)
class Narrow(Pass):
    """Remove the channels with the lowest scores.

    ``ratio`` is the share to remove from every group of coupled channels. ``macs`` is instead the share of
    multiply-accumulates to keep; channels are then removed by score per multiplication over the whole network.
    ``score`` is ``l1``, ``l2``, ``bn``, ``taylor`` or ``code`` (expected bit flips). Widths are multiples of
    ``multiple``, the vector length of the target, and stay above the share ``least``. Scores and ``refit`` use
    ``images`` training images; ``refit`` fits the layers with fewer inputs to their original outputs by least squares.

    Raises:
        RecipeError: A setting is out of range.
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
        """Whether training images are needed: for scores that are measured, and for ``refit``."""
        return self.refit or self.score in ("taylor", "code")

    def decide(self, model: HashModel, context: Context) -> Decision:
        """Return ``widths``: layer -> channels before and after, and ``skipped``: layer -> reason."""
        graph, removed = self._removed(model, context)
        untreated = {**unfollowed(model.net, graph), **frozen_reasons(graph)}
        return Decision({"widths": widths_left(graph, removed), "skipped": untreated}, (graph, removed))

    def _removed(self, model: HashModel, context: Context) -> tuple[Channels, np.ndarray]:
        """Return the channels of all layers and the ids of those to remove."""
        graph = self._without_skipped(channels(model), model.net)
        if not graph.layers:
            return graph, np.zeros(0, dtype=np.int64)
        train = None if context.split is None else context.split.train
        images = None if train is None else train.take(places(train, self.images, context.seed))
        scores = SCORES[self.score](model, graph, images, context.seed)
        if self.ratio is not None:
            return graph, by_ratio(graph, scores, self.ratio, multiple=self.multiple, least=self.least)
        return graph, by_macs(graph, scores, float(self.macs or 1), multiple=self.multiple, least=self.least)

    def apply(self, model: HashModel, decision: Decision, context: Context) -> HashModel:
        """Return the model with fewer channels."""
        graph, removed = decision.plan
        net = model.copy_net(sharing=layers_with_fewer_inputs(graph, removed))
        edits = cut(net, graph, removed)
        model.unshare_memory(net)  # what is tied to a weight that was cut was not
        if self.refit:
            train = context.training_split(self).train
            pixels = train.select(places(train, self.images, context.seed))
            refit(net, model.net, layers_with_fewer_inputs(graph, removed), pixels, model.arch.input, seed=context.seed)
        return model.edited(net, edits, self.step(context.seed, widths=decision.data["widths"]))

    def _without_skipped(self, graph: Channels, net: nn.Module) -> Channels:
        table, frozen = dict.fromkeys(self.skip, True), dict(graph.frozen)
        first = next((path for path, layer in graph.layers.items() if layer.produces), "")
        if graph.layers:
            names = dict.fromkeys((*weighted(net), *(path for path, layer in graph.layers.items() if layer.produces)))
            check_matched(self.skip, {path: keywords_of(path, get_layer(net, path), first) for path in names})
        for path, layer in graph.layers.items():
            if layer.produces and pick(table, path, keywords_of(path, get_layer(net, path), first)):
                frozen |= dict.fromkeys(layer.outputs.tolist(), "is skipped")
        return replace(graph, frozen=frozen)


def unfollowed(net: nn.Module, graph: Channels) -> dict[str, str]:
    """Return the layers with parameters whose channels are unknown, with reasons."""
    if not graph.layers:
        return {}
    reasons = dict.fromkeys(weighted(net), "is not called as a layer of its own") | graph.unfollowed | skipped(net)
    return {path: why for path, why in reasons.items() if path not in graph.layers}


def layers_with_fewer_inputs(graph: Channels, removed: np.ndarray) -> dict[str, np.ndarray]:
    """Return the layers that lose inputs and mix channels, with their remaining outputs."""
    return {
        path: np.flatnonzero(~np.isin(layer.outputs, removed))
        for path, layer in graph.layers.items()
        if layer.produces and np.isin(layer.inputs, removed).any()
    }


def places(images: Items, count: int, seed: int) -> np.ndarray:
    """Return the indices of ``count`` random images, or of all."""
    if count >= len(images):
        return np.arange(len(images))
    return np.sort(np.random.default_rng(seed).choice(len(images), count, replace=False))
