"""Selection of the channels to remove by score, and their removal from all layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from ...core.errors import RecipeError
from ...core.layers import get_layer
from ...core.model import Edit
from ...modelfile.layers.narrowed import Narrowed, Repadded, narrow
from .graph import Channels, LayerChannels

Scores = np.ndarray  # (labels,), what is lost with each


def channels_to_keep(count: int, ratio: float, multiple: int, least: float) -> int:
    """Return how many of ``count`` channels to keep: a multiple of ``multiple``, and at least the share ``least``."""
    remaining = max((1 - ratio) * count, least * count, 1)
    return min(count, int(np.ceil(round(remaining / multiple, 9))) * multiple)


def by_ratio(graph: Channels, scores: Scores, ratio: float, *, multiple: int = 1, least: float = 0.0) -> np.ndarray:
    """Return the channel ids to remove: the share ``ratio`` with the lowest scores of every group of coupled channels."""
    removed = [
        ids[np.argsort(scores[ids], kind="stable")][: len(ids) - channels_to_keep(len(ids), ratio, multiple, least)]
        for ids in graph.spaces()
    ]
    return np.sort(np.concatenate([np.zeros(0, dtype=np.int64), *removed]))


def by_macs(graph: Channels, scores: Scores, share: float, *, multiple: int = 1, least: float = 0.1) -> np.ndarray:
    """Return the channel ids to remove so that at most ``share`` of the multiply-accumulates remains.

    Blocks of ``multiple`` channels are removed one after the other, always the one with the least score per saved
    multiplication.

    Raises:
        RecipeError: Layers would have to be narrower than ``least``.
    """
    plan = _Plan(graph, scores, multiple, least)
    goal = share * plan.macs()
    total = plan.macs()
    while total > goal:
        choices = [(plan.price(place), place) for place in range(len(plan.queues)) if plan.block(place)]
        if not choices:
            raise RecipeError(
                f"narrow: {share:.3g} of the multiplications cannot be reached with at least {least:.3g} of every "
                f"width left (multiples of {multiple}); the least is {total / plan.macs_before:.3g}"
            )
        total -= plan.take(min(choices)[1])
    return np.sort(np.array([channel for gone in plan.gone for channel in gone], dtype=np.int64))


@dataclass
class _Reader:
    """One layer, with its widths as a function of the widths of the groups."""

    layer: LayerChannels
    inputs: np.ndarray  # (groups,) channels for each label of a group
    outputs: np.ndarray
    fixed: tuple[int, int]  # channels that always stay


class _Plan:
    """Queues of channels by rising score, and the multiply-accumulates after removal of some."""

    def __init__(self, graph: Channels, scores: Scores, multiple: int, least: float) -> None:
        spaces = graph.spaces()
        self.multiple, self.scores = multiple, scores
        self.queues = [ids[np.argsort(scores[ids], kind="stable")].tolist() for ids in spaces]
        self.floor = [channels_to_keep(len(ids), 1.0, multiple, least) for ids in spaces]
        self.gone: list[list[int]] = [[] for _ in spaces]
        self.counts = np.array([len(ids) for ids in spaces], dtype=np.int64)
        self.readers = [_reader(layer, spaces) for layer in graph.layers.values() if layer.macs(1, 1)]
        self.macs_before = self.macs()

    def macs(self, counts: np.ndarray | None = None, place: int | None = None) -> int:
        """Return the multiply-accumulates of all layers, or of those with channels of group ``place``."""
        counts = self.counts if counts is None else counts
        return sum(
            reader.layer.macs(
                reader.fixed[0] + int(reader.inputs @ counts), reader.fixed[1] + int(reader.outputs @ counts)
            )
            for reader in self.readers
            if place is None or reader.inputs[place] or reader.outputs[place]
        )

    def block(self, place: int) -> int:
        """Return how many channels of a group would be removed next; 0 if none may be."""
        size = int(self.counts[place]) % self.multiple or self.multiple
        return size if self.counts[place] - size >= self.floor[place] else 0

    def saved(self, place: int) -> int:
        """Return the multiplications that the next block of a group saves."""
        fewer = self.counts.copy()
        fewer[place] -= self.block(place)
        return self.macs(place=place) - self.macs(fewer, place)

    def price(self, place: int) -> float:
        """Return the lost score per saved multiplication."""
        return float(self.scores[self.queues[place][: self.block(place)]].sum()) / max(self.saved(place), 1)

    def take(self, place: int) -> int:
        """Remove the next block of a group and return the saved multiplications."""
        size, saved = self.block(place), self.saved(place)
        self.gone[place] += self.queues[place][:size]
        del self.queues[place][:size]
        self.counts[place] -= size
        return saved


def _reader(layer: LayerChannels, spaces: list[np.ndarray]) -> _Reader:
    inputs, outputs = (
        np.array([np.isin(ids, space).sum() // max(len(space), 1) for space in spaces], dtype=np.int64)
        for ids in (layer.inputs, layer.outputs)
    )
    sizes = np.array([len(space) for space in spaces], dtype=np.int64)
    fixed = (len(layer.inputs) - int(inputs @ sizes), len(layer.outputs) - int(outputs @ sizes))
    return _Reader(layer, inputs, outputs, fixed)


def widths_left(graph: Channels, removed: np.ndarray) -> dict[str, list[int]]:
    """Return the numbers of output channels, before and after, of every layer that loses some."""
    outputs = {}
    for path, layer in graph.layers.items():
        remaining = int((~np.isin(layer.outputs, removed)).sum())
        if layer.kind != "pad" and remaining < len(layer.outputs):
            outputs[path] = [len(layer.outputs), remaining]
    return outputs


def cut(net: nn.Module, graph: Channels, removed: np.ndarray) -> list[Edit]:
    """Remove the channels with the ids ``removed`` from every layer of ``net``, in place, and return the edits."""
    edits: list[Edit] = []
    for path, layer in graph.layers.items():
        inputs, outputs = (~np.isin(ids, removed) for ids in (layer.inputs, layer.outputs))
        if inputs.all() and outputs.all():
            continue
        if layer.kind == "pad":
            block: Any = get_layer(net, owner := path.removesuffix(":pad"))
            before = int(outputs[: layer.area].sum())
            block.before, block.behind = before, int(outputs.sum() - inputs.sum()) - before
            edits.append(Repadded(owner, block.before, block.behind))
            continue
        narrow(get_layer(net, path), *(torch.from_numpy(np.flatnonzero(kept)) for kept in (inputs, outputs)))
        edits.append(Narrowed(path, int(inputs.sum()), int(outputs.sum())))
    return edits


def frozen_reasons(graph: Channels) -> Mapping[str, str]:
    """Return the layers that keep all their outputs, with reasons."""
    if not graph.layers:
        return {"*": next(iter(graph.frozen.values()), "there are no layers")}
    reasons = {}
    for path, layer in graph.layers.items():
        if layer.produces:
            why = {graph.frozen[int(channel)] for channel in np.unique(layer.outputs) if int(channel) in graph.frozen}
            if why:
                reasons[path] = "; ".join(sorted(why))
    return reasons
