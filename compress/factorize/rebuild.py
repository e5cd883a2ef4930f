"""Reconstruction of one layer by low-rank layers with the solvers of tensors/reconstruct.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from ...core.data.images import Pixels
from ...core.layers import get_layer
from ...core.model import HashModel
from ...modelfile.layers.factored import Factored, fill, group_kernels
from ..observe.activations import sampled_activations
from ..observe.moments import patch_moments
from .tensors import whiten
from .tensors.reconstruct import Subspace, filterwise, nonlinear, principal, reduced_rank

ENOUGH = 2  # rows per response from which a regression can be trusted
COLUMNS = 1024  # of a weight worked on together
Solve = Callable[[np.ndarray, np.ndarray, int], Subspace]
SOLVERS: dict[str, Solve | None] = {"filter": None, "linear": reduced_rank, "nonlinear": nonlinear}


@dataclass(frozen=True)
class Sample:
    """Sampling of responses: images (N, C, H, W), positions per image, seed, and whether to correct errors of earlier layers."""

    pixels: Pixels
    places: int
    seed: int
    asymmetric: bool


@dataclass(frozen=True)
class Targets:
    """Rows (N, d) that a layer should output, and those that it outputs for the inputs of the approximated network."""

    targets: np.ndarray
    current: np.ndarray


def targets_of(original: HashModel, current: HashModel, path: str, follower: str, sample: Sample) -> Targets:
    """Return targets and inputs of the reconstruction of one layer.

    At the end of a residual branch the *sum* is reconstructed: the target is the original sum minus the output of the
    shortcut in the approximated network.
    """
    sums = [path] if follower == "sum" and sample.asymmetric else []
    taken: dict[str, Any] = {"sums": sums, "places": sample.places, "seed": sample.seed}
    whole = sampled_activations(original, sample.pixels, [path], **taken)
    targets = whole.outputs[path].astype(np.float64)
    if not sample.asymmetric:
        return Targets(targets, targets)
    now = sampled_activations(current, sample.pixels, [path], **taken)
    current = now.outputs[path].astype(np.float64)
    if sums:
        targets = whole.sums[path].astype(np.float64) - now.sums[path] + current
    return Targets(targets, current)


def rebuild_layer(
    original: HashModel, current: HashModel, edit: Factored, solver: str, follower: str, sample: Sample | None
) -> float:
    """Put the chain of ``edit`` into ``current``'s network, in place; return the lost share of the energy of the responses.

    The ReLU objective is used if a ReLU follows, otherwise the linear one.
    """
    layer: Any = get_layer(original.net, edit.layer)
    groups = getattr(layer, "groups", 1)
    biases = np.split(_bias(layer), groups)
    rank, rows = edit.ranks[-1], None
    if sample is None:
        maps = [
            filterwise(kernel.reshape(len(kernel), -1), b, rank)
            for kernel, b in zip(group_kernels(layer), biases, strict=True)
        ]
    else:
        rows = targets_of(original, current, edit.layer, follower, sample)
        solve = nonlinear if solver == "nonlinear" and follower == "relu" else reduced_rank
        if len(rows.current) < ENOUGH * len(biases[0]):
            solve = principal
        split = [np.split(part, groups, axis=1) for part in (rows.targets, rows.current)]
        maps = [solve(targets, current, rank) for targets, current in zip(*split, strict=True)]
    # M y = M (W x + b0): the layer's own bias moves to the last layer
    bias = np.concatenate([one.bias + one.outputs @ (one.inputs.T @ b) for one, b in zip(maps, biases, strict=True)])
    filters = _filters(layer, maps)
    points = [one.outputs for one in maps]
    if edit.form == "lowrank":
        _put(current, edit, [filters, points], bias)
    else:
        _split(current, edit, filters, points, bias, sample)
        if sample is not None and rows is not None:
            _refit(current, edit, solver, follower, sample, rows)
    del maps, filters, points
    return 0.0 if rows is None else _lost(current, edit.layer, follower, sample, rows.targets)


def _filters(layer: Any, maps: list[Subspace]) -> list[np.ndarray]:
    """Return the filters (r, S / groups, kh, kw) of each group that compute the inputs of its subspace.

    A large weight is converted to double precision in parts.
    """
    filters = []
    for one, weight in zip(maps, layer.weight.detach().cpu().chunk(len(maps)), strict=True):
        flat = weight.flatten(1)
        made = np.empty((one.inputs.shape[1], flat.shape[1]))
        for start in range(0, flat.shape[1], COLUMNS):
            made[:, start : start + COLUMNS] = one.inputs.T @ flat[:, start : start + COLUMNS].double().numpy()
        filters.append(made.reshape(-1, *weight.shape[1:]))
    return filters


def _put(current: HashModel, edit: Factored, weights: list[list[np.ndarray]], bias: np.ndarray) -> None:
    edit.apply(current.net)
    made: Any = get_layer(current.net, edit.layer)
    fill(made, weights, bias if made[-1].bias is not None else None)


def _split(
    current: HashModel,
    edit: Factored,
    filters: list[np.ndarray],
    points: list[np.ndarray],
    bias: np.ndarray,
    sample: Sample | None,
) -> None:
    """Put kx1 and 1xk layers in place of the filters, by the best separable fit under the covariance of the input channels."""
    inputs = filters[0].shape[1]
    channels = [np.eye(inputs)] * len(filters)
    if sample is not None:
        moments = patch_moments(
            current, sample.pixels, edit.layer, channels=True, places=sample.places, seed=sample.seed
        )
        channels = [whiten.shrunk(part.covariance) for part in moments]
    pairs = [
        whiten.separable(part, edit.ranks[0], responses) for part, responses in zip(filters, channels, strict=True)
    ]
    _put(current, edit, [[one for one, _ in pairs], [other for _, other in pairs], points], bias)


def _refit(current: HashModel, edit: Factored, solver: str, follower: str, sample: Sample, rows: Targets) -> None:
    """Refit the last 1x1 layer to the actual outputs of the two layers before it."""
    made: Any = get_layer(current.net, edit.layer)
    between = f"{edit.layer}.1"
    responses = sampled_activations(current, sample.pixels, [between], places=sample.places, seed=sample.seed).outputs[
        between
    ]
    solve = nonlinear if solver == "nonlinear" and follower == "relu" else reduced_rank
    groups = made[-1].groups
    split = zip(*(np.split(part, groups, axis=1) for part in (rows.targets, responses.astype(np.float64))), strict=True)
    maps = [solve(targets, inputs, edit.ranks[-1]) for targets, inputs in split]
    weights = [group_kernels(layer) for layer in made[:-1]]
    fill(made, [*weights, [one.outputs @ one.inputs.T for one in maps]], np.concatenate([one.bias for one in maps]))


def _lost(current: HashModel, path: str, follower: str, sample: Sample | None, targets: np.ndarray) -> float:
    """Return the share of the variance of the (rectified) targets that the chain does not explain."""
    if sample is None:
        return 0.0
    got = sampled_activations(current, sample.pixels, [path], places=sample.places, seed=sample.seed).outputs[path]
    if follower == "relu":
        targets, got = np.maximum(targets, 0.0), np.maximum(got, 0.0)
    variance = float(np.sum((targets - targets.mean(axis=0)) ** 2))
    return float(np.sum((targets - got) ** 2)) / max(variance, 1e-300)


def _bias(layer: nn.Conv2d | nn.Linear) -> np.ndarray:
    if layer.bias is None:
        return np.zeros(len(layer.weight))
    return layer.bias.detach().double().cpu().numpy()
