"""Neurons that compute nearly the same become one, without data (Srinivas & Babu, BMVC 2015, arXiv:1507.06149).

Between ``fold`` and ``finetune``; a structural pass. Dense layers, and convolution channels, whose outputs are made by
one layer only and read by known ones: not behind residual joins, batch norms that were not folded, or depthwise layers.
Scales are folded away where everything up to the readers is positively homogeneous (ReLU, pooling).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from ...core.data.images import Pixels
from ...core.errors import RecipeError
from ...core.heap import give_back
from ...core.inputs import Input
from ...core.layers import get_layer
from ...core.model import HashModel, Json
from ...core.progress import track
from ...core.settings import check_fields
from ..base import Context, Decision, Pass
from ..obs import damped, remove_blocks
from ..observe.moments import patch_moments
from ..observe.sampling import choose
from ..observe.synthetic import noise
from ..select import check_keys, skipped, spread, weighted
from .constant_neurons import put_biases, taken_up
from .graph import Channels, channels
from .least_squares import refit
from .narrow import thinner, unfollowed
from .neurons import neurons_of, put_outgoing, readers
from .removal import cut, frozen_reasons
from .similarity import DISTANCES, cutoff, merges, outgoing_after, saliencies

CHOICES = ("weights", "outputs")
IMAGES = ("training", "noise")
WIDEST = 4096  # inputs of a layer up to which choices by its outputs invert their products


@dataclass(frozen=True)
class Merge(Pass):
    """Merge the pairs of neurons whose union costs least.

    ``share`` is the share of neurons that goes, one for all or a table by layer (names, ``re:`` patterns, ``first``,
    ``conv``, ``dense``, ``*``); without it the mode of the histogram of saliencies says how many, of which ``caution``
    are merged (the paper takes 0.25 to 0.75 in large networks). ``kinds`` are the layers treated. With ``refit`` > 0
    the layers behind are fitted to their old outputs by least squares on that many images. ``by = "outputs"`` chooses on
    these images too: the neuron goes whose loss the others make up for best (needs ``share``; not where a layer of more
    than 4,096 inputs reads it). ``images`` are those of the training set, or ``noise`` as smooth as natural images are
    (:mod:`..noise`), for which no data is needed.

    Raises:
        RecipeError: a setting is out of range.
    """

    name: ClassVar[str] = "merge"
    phase: ClassVar[str] = "structure"
    keeps_layer_names: ClassVar[bool] = True
    without_images: ClassVar[str] = "images = 'noise' or refit = 0"
    share: float | Mapping[str, float] | None = None
    caution: float = 1.0
    distance: str = "relative"
    by: str = "weights"
    kinds: tuple[str, ...] = ("dense",)
    skip: tuple[str, ...] = ()
    refit: int = 0
    images: str = "training"

    def __post_init__(self) -> None:
        check_fields("merge", self, RecipeError)
        table = self.share if isinstance(self.share, Mapping) else {} if self.share is None else {"*": self.share}
        problems = [*check_keys("merge: share", list(table)), *check_keys("merge: skip", self.skip)]
        problems += [
            f"merge: share of {key!r} must be in [0, 1), got {value}"
            for key, value in table.items()
            if not 0 <= value < 1
        ]
        if not 0 <= self.caution <= 1:
            problems.append(f"merge: caution must be in [0, 1], got {self.caution}")
        if self.distance not in DISTANCES:
            problems.append(f"merge: unknown distance {self.distance!r} (there are: {', '.join(DISTANCES)})")
        if not self.kinds or set(self.kinds) - {"dense", "conv"}:
            problems.append(f"merge: kinds are dense and conv, got {', '.join(self.kinds) or 'none'}")
        if self.by not in CHOICES:
            problems.append(f"merge: unknown choice by {self.by!r} (there are: {', '.join(CHOICES)})")
        elif self.by == "outputs" and (self.share is None or not self.refit):
            problems.append("merge: a choice by outputs needs share, and refit images to look at")
        if self.refit < 0:
            problems.append(f"merge: refit must be a number of images, got {self.refit}")
        if self.images not in IMAGES:
            problems.append(f"merge: unknown images {self.images!r} (there are: {', '.join(IMAGES)})")
        elif self.images == "noise" and not self.refit:
            problems.append("merge: images = 'noise' needs refit: how many are drawn")
        if problems:
            raise RecipeError(problems)

    @property
    def needs_images(self) -> bool:
        """Whether training images are needed: to refit, unless on noise."""
        return self.refit > 0 and self.images == "training"

    def decide(self, model: HashModel, context: Context) -> Decision:
        """Return ``layers``: neurons, how many go, the last saliency and the cut-off; and ``skipped``: layer -> reason.

        A layer stands in both, and ``fewer`` in its figures, where fewer neurons can go than were asked for.
        """
        found = channels(model)
        net, removed, figures = self._merged(model, found, context)
        fewer = {path: one["fewer"] for path, one in figures.items() if "fewer" in one}
        untreated = unfollowed(model.net, found) | self._untreated(model.net, found) | fewer
        return Decision({"layers": figures, "skipped": untreated}, (net, found, removed))

    def apply(self, model: HashModel, decision: Decision, context: Context) -> HashModel:
        """Return the model with fewer neurons."""
        merged, found, removed = decision.plan
        whole = replace(model, net=merged)
        net = whole.copied_net(sharing=weighted(merged))
        edits = cut(net, found, removed)
        whole.unshared(net)
        if self.refit:
            pixels = self._pixels(model, context)
            refit(net, model.net, thinner(found, removed), pixels, model.arch.input, seed=context.seed)
        return model.edited(net, edits, self.step(context.seed, layers=decision.data["layers"]))

    def _pixels(self, model: HashModel, context: Context) -> Pixels:
        if self.images == "noise":
            return noise(model.arch.input, self.refit, context.seed)
        return choose(context.training_split(self), self.refit, context.seed)

    def _merged(
        self, model: HashModel, found: Channels, context: Context
    ) -> tuple[nn.Module, np.ndarray, dict[str, Json]]:
        """Return a copy with the outgoing weights added up, the channel ids that can go, and the figures of each layer."""
        net = model.copied_net(sharing=weighted(model.net))
        pixels = self._pixels(model, context) if self.by == "outputs" else None
        shares = self._shares(model.net)
        refused = self._untreated(net, found)
        paths = [path for path, layer in found.layers.items() if layer.produces and path not in refused]
        removed: list[np.ndarray] = [np.zeros(0, dtype=np.int64)]
        figures: dict[str, Any] = {}
        for path in track(paths, "merging"):
            labels = found.layers[path].outputs
            size, why = len(labels), ""
            count = None if self.share is None else round(shares[path] * size)
            if pixels is not None:
                gone = by_outputs(model, found, path, pixels, count or 0)
                figures[path] = {"neurons": size, "removed": len(gone)}
            else:
                gone, figures[path], why = self._into_others(net, found, path, count, model.arch.input)
            removed.append(labels[gone])
            if count is not None and len(gone) < count:
                rest = "one stays in every layer" if len(gone) == size - 1 else f"those without weights stay: {why}"
                figures[path]["fewer"] = f"{len(gone)} neurons go of {count} asked for; {rest}"
        return net, np.sort(np.concatenate(removed)), figures

    def _into_others(
        self, net: nn.Module, found: Channels, path: str, count: int | None, spec: Input
    ) -> tuple[list[int], dict[str, Json], str]:
        """Add up what goes out of the neurons of ``path`` and return those that can go, figures, and why others cannot."""
        neurons = neurons_of(net, found, path)
        free, why = taken_up(net, found, path, neurons.still, spec)
        limit = cutoff(saliencies(neurons, self.distance)) if count is None else None
        done = merges(neurons, count=count, limit=limit, distance=self.distance, free=list(free))
        done = done if count is not None else done[: round(self.caution * len(done))]
        gone = [merge.removed for merge in done]
        put_biases(net, [free[neuron] for neuron in gone if neuron in free])
        put_outgoing(net, found, path, outgoing_after(neurons.outgoing, done), gone)
        last = max((merge.saliency for merge in done), default=0)
        figures = {"neurons": len(neurons.bias), "removed": len(gone), "saliency": last}
        return gone, figures | ({} if limit is None else {"cutoff": limit}), why

    def _shares(self, net: nn.Module) -> dict[str, float]:
        return spread(-1.0 if self.share is None else self.share, net, self.skip)

    def _untreated(self, net: nn.Module, found: Channels) -> dict[str, str]:
        """Return why layers are left alone."""
        if not found.layers:
            return dict(frozen_reasons(found))
        producers, reasons, others = found.members(producing=True), {}, skipped(net)
        shares = self._shares(net)
        norms, passing = _labels_in(found, ("norm",)), _labels_in(found, ("depthwise", "pad"))
        for path, layer in found.layers.items():
            if not layer.produces:
                continue
            labels = set(layer.outputs.tolist())
            if path in others:
                reasons[path] = others[path]
            elif path not in shares:
                reasons[path] = "the settings leave it out"
            elif layer.kind not in self.kinds:
                reasons[path] = f"{layer.kind} layers were not asked for"
            elif labels & found.frozen.keys():
                reasons[path] = next(found.frozen[label] for label in layer.outputs.tolist() if label in found.frozen)
            elif labels & norms:
                reasons[path] = "a batch norm follows; fold it first"
            elif labels & passing or any(len(producers[label]) > 1 for label in labels):
                reasons[path] = "its channels meet those of other layers"
            else:
                reasons |= self._by_readers(net, found, path)
        return reasons

    def _by_readers(self, net: nn.Module, found: Channels, path: str) -> dict[str, str]:
        """Return the reason by path, if the layers that read this one are one to leave it alone."""
        sizes = {
            name: get_layer(net, name).get_parameter("weight")[0].numel()
            for name, _ in readers(found, found.layers[path].outputs)
        }
        if not sizes:
            return {path: "no layer reads it"}
        name = max(sizes, key=sizes.__getitem__)
        if self.by == "outputs" and sizes[name] > WIDEST:
            return {path: f"by outputs, and {name!r}, which reads it, has {sizes[name]} inputs, more than {WIDEST}"}
        return {}


def by_outputs(model: HashModel, found: Channels, path: str, pixels: Pixels, count: int) -> list[int]:
    """Return ``count`` neurons of ``path`` whose loss the others make up for best, in the layers that read them."""

    def problem(reader: str, places: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        layer: Any = get_layer(model.net, reader)
        weight = layer.weight.detach()
        square = torch.from_numpy(patch_moments(model, pixels, reader)[0].covariance)  # biases take up the means
        give_back()
        area = weight[0, 0].numel()
        columns = torch.from_numpy(places)[:, :, None] * area + torch.arange(area)
        return weight.flatten(1), damped(square.mul_(2), 1e-4), columns.flatten(1)

    labels = found.layers[path].outputs  # one problem at a time: inputs by inputs are large
    return remove_blocks((problem(*each) for each in readers(found, labels)), min(count, len(labels) - 1))


def _labels_in(found: Channels, kinds: tuple[str, ...]) -> set[int]:
    return {
        label for layer in found.layers.values() if layer.kind in kinds for label in (*layer.outputs, *layer.inputs)
    }
