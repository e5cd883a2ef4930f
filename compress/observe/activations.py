"""Activations of layers, and of the sums after them, at sampled positions of each image."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...core.data.images import Pixels
from ...core.errors import InputError
from ...core.model import HashModel
from .followers import FollowerRecorder
from .hooks import StopForward, layers_at
from .runner import run
from .sampling import batches, drawn


@dataclass
class Activations:
    """Rows (N, d) of float32 of layer outputs at sampled positions; ``sums`` are the results of the additions after layers."""

    outputs: dict[str, np.ndarray]
    sums: dict[str, np.ndarray]


def sampled_activations(
    model: HashModel,
    pixels: Pixels,
    paths: Sequence[str],
    *,
    sums: Sequence[str] = (),
    places: int = 10,
    seed: int = 0,
) -> Activations:
    """Return the outputs of the layers at ``paths`` at ``places`` random positions per image (dense layers have one).

    The positions depend only on ``seed`` and the size of the output of a layer, so layers and networks of equal sizes
    are sampled at the same positions. A batch stops after the last of the layers.

    Raises:
        InputError: A layer never ran, or no addition follows one of ``sums``.
    """
    sampler = _ActivationSampler(model, tuple(paths), tuple(sums), places, seed)
    with sampler.recording(), sampler, torch.no_grad():
        for start, part in batches(pixels, "responses"):
            sampler.begin(start)
            with suppress(StopForward):
                run(model.net, model.arch.input, part)
    return sampler.result()


class _ActivationSampler(FollowerRecorder):
    """Collects sampled rows of the outputs of some layers and of the sums after them."""

    def __init__(self, model: HashModel, paths: tuple[str, ...], sums: tuple[str, ...], places: int, seed: int) -> None:
        super().__init__(layers_at(model.net, [*paths, *sums]))
        self.paths, self.sums, self.places, self.seed = paths, sums, places, seed
        self.rows: dict[tuple[str, str], list[np.ndarray]] = {}
        self.start = 0
        self.missing: set[tuple[str, str]] = set()

    def begin(self, start: int) -> None:
        """Start a batch."""
        self.sources.clear()
        self.followers_by_path.clear()
        self.start = start
        self.missing = {*(("output", path) for path in self.paths), *(("sum", path) for path in self.sums)}

    def record_output(self, path: str, output: Tensor) -> None:
        """Collect rows of the output of a layer."""
        if path in self.sums:
            super().record_output(path, output)
        if path in self.paths:
            self.take("output", path, output)

    def record_follower(self, path: str, what: str, result: Tensor) -> None:
        """Collect rows of the sum after a layer."""
        if what == "sum":
            self.take("sum", path, result)

    def take(self, what: str, path: str, values: Tensor) -> None:
        """Collect the values at the positions of this batch."""
        rows = values.detach().float().cpu()
        if rows.ndim == 4:
            flat = rows.flatten(2)
            random = np.random.default_rng((self.seed, self.start))
            rows = drawn(flat, self.places, random)
        self.rows.setdefault((what, path), []).append(rows.reshape(-1, rows.shape[-1]).numpy().copy())
        self.missing.discard((what, path))  # a layer that is called again has been sampled before
        if not self.missing:
            raise StopForward

    def result(self) -> Activations:
        """Return all rows."""
        for what, wanted in (("output", self.paths), ("sum", self.sums)):
            for path in wanted:
                if (what, path) not in self.rows:
                    raise InputError(f"layer {path!r}: no {what} was seen while the network ran")
        return Activations(
            {path: np.concatenate(self.rows["output", path]) for path in self.paths},
            {path: np.concatenate(self.rows["sum", path]) for path in self.sums},
        )
