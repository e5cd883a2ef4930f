"""Data-free merging of similar neurons (Srinivas & Babu, BMVC 2015, arXiv:1507.06149).

A structured pass between ``fold`` and ``finetune``. Treated are dense layers and convolution channels whose outputs
come from a single layer and are read by known ones: not those before residual additions, unfolded batch norms or
depthwise layers. Scales of neurons are factored out where everything up to the next layers is positively homogeneous
(ReLU, pooling).
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
from ..select import check_keys, per_layer, skipped, weighted
from .constant_neurons import absorbed_constants, add_to_biases
from .graph import Channels, channels
from .least_squares import refit
from .narrow import layers_with_fewer_inputs, unfollowed
from .neurons import neurons_of, put_outgoing, readers
from .removal import cut, frozen_reasons
from .similarity import DISTANCES, cutoff, merges, outgoing_after, saliencies

CHOICES = ("weights", "outputs")
IMAGES = ("training", "noise")
WIDEST = 4096  # inputs of a layer up to which choices by its outputs invert their products


@dataclass(frozen=True)
class Merge(Pass):
    """Merge the pairs of neurons with the lowest saliency.

    ``share`` is the share of neurons to remove, a single value or a table by layer (names, ``re:`` patterns, ``first``,
    ``conv``, ``dense``, ``*``). Without it, the number follows from the mode of the histogram of saliencies, of which
    the share ``caution`` is merged (the paper uses 0.25 to 0.75 in large networks). ``kinds`` are the kinds of layers
    to treat. With ``refit`` > 0, the next layers are refitted to their original outputs by least squares on that many
    images. ``by = "outputs"`` also selects neurons on these images: those whose removal the other neurons compensate
    best (needs ``share``; not for layers that are read by one with more than 4,096 inputs). ``images`` are ``training``
    images, or synthetic ``noise`` with a natural spectrum (:mod:`..observe.synthetic`), for which no data is needed.

    Raises:
        RecipeError: A setting is out of range.
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
            problems.append("merge: by = 'outputs' needs share, and refit images")
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
        """Return ``layers``: neurons, removed neurons, last saliency and cut-off; and ``skipped``: layer -> reason.

        A layer is in both, and has ``fewer`` in its figures, if fewer neurons than requested can be removed.
        """
        graph = channels(model)
        net, removed, figures = self._merged(model, graph, context)
        fewer = {path: one["fewer"] for path, one in figures.items() if "fewer" in one}
        untreated = unfollowed(model.net, graph) | self._untreated(model.net, graph) | fewer
        return Decision({"layers": figures, "skipped": untreated}, (net, graph, removed))

    def apply(self, model: HashModel, decision: Decision, context: Context) -> HashModel:
        """Return the model with fewer neurons."""
        merged, graph, removed = decision.plan
        whole = replace(model, net=merged)
        net = whole.copy_net(sharing=weighted(merged))
        edits = cut(net, graph, removed)
        whole.unshare_memory(net)
        if self.refit:
            pixels = self._pixels(model, context)
            refit(net, model.net, layers_with_fewer_inputs(graph, removed), pixels, model.arch.input, seed=context.seed)
        return model.edited(net, edits, self.step(context.seed, layers=decision.data["layers"]))

    def _pixels(self, model: HashModel, context: Context) -> Pixels:
        if self.images == "noise":
            return noise(model.arch.input, self.refit, context.seed)
        return choose(context.training_split(self), self.refit, context.seed)

    def _merged(
        self, model: HashModel, graph: Channels, context: Context
    ) -> tuple[nn.Module, np.ndarray, dict[str, Json]]:
        """Return a copy with merged outgoing weights, the channel ids to remove, and the figures of each layer."""
        net = model.copy_net(sharing=weighted(model.net))
        pixels = self._pixels(model, context) if self.by == "outputs" else None
        shares = self._shares(model.net)
        refused = self._untreated(net, graph)
        paths = [path for path, layer in graph.layers.items() if layer.produces and path not in refused]
        removed: list[np.ndarray] = [np.zeros(0, dtype=np.int64)]
        figures: dict[str, Any] = {}
        for path in track(paths, "merging"):
            ids = graph.layers[path].outputs
            size, why = len(ids), ""
            count = None if self.share is None else round(shares[path] * size)
            if pixels is not None:
                gone = by_outputs(model, graph, path, pixels, count or 0)
                figures[path] = {"neurons": size, "removed": len(gone)}
            else:
                gone, figures[path], why = self._into_others(net, graph, path, count, model.arch.input)
            removed.append(ids[gone])
            if count is not None and len(gone) < count:
                rest = "one stays in every layer" if len(gone) == size - 1 else f"those without weights stay: {why}"
                figures[path]["fewer"] = f"{len(gone)} neurons go of {count} asked for; {rest}"
        return net, np.sort(np.concatenate(removed)), figures

    def _into_others(
        self, net: nn.Module, graph: Channels, path: str, count: int | None, spec: Input
    ) -> tuple[list[int], dict[str, Json], str]:
        """Merge outgoing weights of the neurons of ``path``; return the neurons to remove, figures, and why others stay."""
        neurons = neurons_of(net, graph, path)
        free, why = absorbed_constants(net, graph, path, neurons.zero_rows, spec)
        limit = cutoff(saliencies(neurons, self.distance)) if count is None else None
        done = merges(neurons, count=count, limit=limit, distance=self.distance, free=list(free))
        done = done if count is not None else done[: round(self.caution * len(done))]
        gone = [merge.removed for merge in done]
        add_to_biases(net, [free[neuron] for neuron in gone if neuron in free])
        put_outgoing(net, graph, path, outgoing_after(neurons.outgoing, done), gone)
        last = max((merge.saliency for merge in done), default=0)
        figures = {"neurons": len(neurons.bias), "removed": len(gone), "saliency": last}
        return gone, figures | ({} if limit is None else {"cutoff": limit}), why

    def _shares(self, net: nn.Module) -> dict[str, float]:
        return per_layer(-1.0 if self.share is None else self.share, net, self.skip)

    def _untreated(self, net: nn.Module, graph: Channels) -> dict[str, str]:
        """Return the skipped layers with reasons."""
        if not graph.layers:
            return dict(frozen_reasons(graph))
        producers, reasons, others = graph.members(producing=True), {}, skipped(net)
        shares = self._shares(net)
        norms, passing = _ids_in(graph, ("norm",)), _ids_in(graph, ("depthwise", "pad"))
        for path, layer in graph.layers.items():
            if not layer.produces:
                continue
            ids = set(layer.outputs.tolist())
            if path in others:
                reasons[path] = others[path]
            elif path not in shares:
                reasons[path] = "skipped by the settings"
            elif layer.kind not in self.kinds:
                reasons[path] = f"{layer.kind} layers are not in kinds"
            elif ids & graph.frozen.keys():
                reasons[path] = next(
                    graph.frozen[channel] for channel in layer.outputs.tolist() if channel in graph.frozen
                )
            elif ids & norms:
                reasons[path] = "a batch norm follows; fold it first"
            elif ids & passing or any(len(producers[channel]) > 1 for channel in ids):
                reasons[path] = "its channels are coupled with those of other layers"
            else:
                reasons |= self._by_readers(net, graph, path)
        return reasons

    def _by_readers(self, net: nn.Module, graph: Channels, path: str) -> dict[str, str]:
        """Return the layer with a reason if it has to be skipped because of the layers that read it."""
        sizes = {
            name: get_layer(net, name).get_parameter("weight")[0].numel()
            for name, _ in readers(graph, graph.layers[path].outputs)
        }
        if not sizes:
            return {path: "no layer reads it"}
        name = max(sizes, key=sizes.__getitem__)
        if self.by == "outputs" and sizes[name] > WIDEST:
            return {path: f"by outputs, and {name!r}, which reads it, has {sizes[name]} inputs, more than {WIDEST}"}
        return {}


def by_outputs(model: HashModel, graph: Channels, path: str, pixels: Pixels, count: int) -> list[int]:
    """Return ``count`` neurons of ``path`` whose removal the other neurons compensate best in the layers that read them."""

    def problem(reader: str, places: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        layer: Any = get_layer(model.net, reader)
        weight = layer.weight.detach()
        square = torch.from_numpy(patch_moments(model, pixels, reader)[0].covariance)  # biases take up the means
        give_back()
        area = weight[0, 0].numel()
        columns = torch.from_numpy(places)[:, :, None] * area + torch.arange(area)
        return weight.flatten(1), damped(square.mul_(2), 1e-4), columns.flatten(1)

    ids = graph.layers[path].outputs  # one problem at a time: inputs by inputs are large
    return remove_blocks((problem(*each) for each in readers(graph, ids)), min(count, len(ids) - 1))


def _ids_in(graph: Channels, kinds: tuple[str, ...]) -> set[int]:
    return {
        channel for layer in graph.layers.values() if layer.kind in kinds for channel in (*layer.outputs, *layer.inputs)
    }
