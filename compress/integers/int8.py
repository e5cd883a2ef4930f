"""Quantization to integers: weights of up to 8 bits with a scale per channel, inputs of 8 bits with a scale per layer.

The last pass, after ``fold`` and all training. The first layer and the hash head always have 8 bits. Activations,
residual sums and pooling stay in float32, on grids that make them exact; compressed layers and batch norms that were
not folded are skipped. For the arithmetic of a layer see :mod:`...modelfile.layers.int8`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ...core.data.images import Pixels, fitting_batch
from ...core.errors import RecipeError
from ...core.layers import get_layer
from ...core.model import HashModel, Json
from ...core.progress import track
from ...core.settings import check_fields
from ...modelfile.layers.factored import Factored
from ...modelfile.layers.int8 import Quantized, put_bias
from .. import obs
from ..base import Context, Decision, Pass
from ..observe import sampling
from ..observe.external_reads import externally_read
from ..observe.hooks import first_call
from ..observe.moments import patch_moments
from ..observe.runner import observe
from ..select import check_keys, per_layer, skipped
from . import ranges
from .adaround import QuantizationGrid, Rounded, learn_rounding, mixed, nearest

ROUNDINGS = ("nearest", "obs", "learned")
POOL = 4096  # images that rounding is learned on
BATCH = 16  # images that run at once, fewer of large ones
MOST_STEPS = 10**6


@dataclass(frozen=True)
class Int8(Pass):
    """Quantize the network to integers.

    ``bits`` of weights is one number or a table by layer (names, ``re:`` patterns, ``conv``, ``dense``, ``*``).
    ``range`` is the calibration of scales: ``minmax``, ``percentile`` or ``mse``. ``rounding`` is ``nearest``, ``obs``
    (compensated, GPTQ) or ``learned`` (AdaRound on the code, starting from ``obs``; ``steps`` of ``batch`` images).
    Learned rounding preserves the original codes; ``task`` weighs how much codes are also drawn to the hash centers of
    their classes. Calibration uses ``images`` training images, learned rounding 4,096 or more. With ``correct``, biases
    absorb the mean error of each channel.

    Raises:
        RecipeError: A setting is out of range.
    """

    name: ClassVar[str] = "int8"
    phase: ClassVar[str] = "values"
    last_because: ClassVar[str] = "int8 is the last pass: integer weights cannot be trained or compressed further"
    bits: int | Mapping[str, int] = 8
    range: str = "mse"
    rounding: str = "nearest"
    skip: tuple[str, ...] = ()
    images: int = 512
    correct: bool = True
    steps: int = 400
    batch: int = 32
    lr: float = 0.01
    task: float = 0.0

    def __post_init__(self) -> None:
        check_fields("int8", self, RecipeError)
        table = self.bits if isinstance(self.bits, Mapping) else {"*": self.bits}
        problems = [*check_keys("int8: bits", list(table)), *check_keys("int8: skip", self.skip)]
        problems += [
            f"int8: bits of {key!r} must be 2 to 8, got {value}" for key, value in table.items() if not 2 <= value <= 8
        ]
        for name, known in (("range", ranges.RANGES), ("rounding", ROUNDINGS)):
            if getattr(self, name) not in known:
                problems.append(f"int8: unknown {name} {getattr(self, name)!r} (there are: {', '.join(known)})")
        if min(self.images, self.batch) < 1 or self.steps < 0 or not 0 < self.lr < float("inf"):
            problems.append("int8: images, batch, steps and lr must be positive")
        if self.steps > MOST_STEPS:
            problems.append(f"int8: steps must be at most {MOST_STEPS:,}, got {self.steps:,}")
        if not 0 <= self.task < float("inf"):
            problems.append(f"int8: task must be at least 0, got {self.task}")
        elif self.task and self.rounding != "learned":
            problems.append(f"int8: task {self.task} is for rounding 'learned', got {self.rounding!r}")
        if problems:
            raise RecipeError(problems)

    @property
    def needs_images(self) -> bool:
        """Whether training images are needed: always, for calibration."""
        return True

    def without_training(self) -> Int8:
        """Return the pass without the steps of learned rounding."""
        return replace(self, steps=0)

    def decide(self, model: HashModel, context: Context) -> Decision:
        """Return ``layers``: bits, scale, zero and step of each; and ``skipped``: layer -> reason."""
        edits, grids = self._grids(model, context)
        layers = {
            path: {"bits": edit.bits, "scale": edit.scale, "zero": edit.zero, "step": edit.step}
            for path, edit in edits.items()
        }
        return Decision({"layers": layers, "skipped": self._untreated(model, layers)}, (edits, grids))

    def apply(self, model: HashModel, decision: Decision, context: Context) -> HashModel:
        """Return the quantized model."""
        split, seed = context.training_split(self), context.seed
        pixels = sampling.choose(split, self.images, seed)
        edits, grids = decision.plan
        net = self._made(
            model, edits, grids, lambda path: self._chosen(model, path, grids[path], pixels, seed), pixels
        )  # fmt: skip
        after: dict[str, Json] = {}
        if self.rounding == "learned" and grids:
            start = {path: rounded_of(get_layer(net, path), grid, edits[path]) for path, grid in grids.items()}
            index = mixed(sampling.chosen(split, max(POOL, self.images), seed), split.train.labels, seed)
            rounded = learn_rounding(
                model, grids, start, split.train.select(index), split.train.labels[index],
                task=self.task, steps=self.steps, batch=self.batch, lr=self.lr, seed=seed,
            )  # fmt: skip
            after["learned"] = rounded is not start
            net = self._made(model, edits, grids, rounded.__getitem__, None)
        return model.edited(net, list(edits.values()), self.step(seed, **after))

    def _made(
        self,
        model: HashModel,
        edits: Mapping[str, Quantized],
        grids: Mapping[str, QuantizationGrid],
        chosen: Callable[[str], Rounded],
        pixels: Pixels | None,
    ) -> nn.Module:
        """Return a quantized copy; with ``pixels``, biases are corrected one layer after the other."""
        net = model.copy_net(sharing=edits)
        expected = means(model, list(edits), pixels) if self.correct and pixels is not None else {}
        for path, edit in track(edits.items(), "integers", len(edits)):
            edit.apply(net)
            fill(get_layer(net, path), *chosen(path), grids[path], edit)
            if pixels is not None and path in expected:
                correct(net, model, path, pixels, grids[path], edit, expected[path])
        return net

    def _grids(self, model: HashModel, context: Context) -> tuple[dict[str, Quantized], dict[str, QuantizationGrid]]:
        pixels = sampling.choose(context.training_split(self), self.images, context.seed)
        known = ranges.layers_of(model.net)
        requested, needed = (
            per_layer(self.bits, model.net, self.skip),
            externally_read(model),
        )  # whole numbers stand for both
        bits = {path: value for path, value in requested.items() if path in known and path not in needed}
        parts = {edit.layer for edit in model.edits if isinstance(edit, Factored)}
        first = next((path for path in parts if known and known[0].startswith(f"{path}.")), known[0] if known else "")
        for path in bits:
            if any(path == name or path.startswith(f"{name}.") for name in (first, "head")):
                bits[path] = 8
        observed = ranges.observe_ranges(model, pixels, list(bits), context.seed)
        edits, grids = {}, {}
        for path, width in bits.items():
            layer: Any = get_layer(model.net, path)
            if observed[path].axes != layer.weight.ndim:  # it never ran, or several rows an image went in
                continue
            if layer.weight[0].numel() > ranges.WIDEST:
                continue
            scale, zero = ranges.affine(*ranges.limits(observed[path], self.range, 8), 8)
            head = path == "head" or path.startswith("head.")
            step = 0.0 if head else ranges.grid_step(observed[path].reach)
            edits[path] = Quantized(path, scale, zero, step, width)
            steps = ranges.weight_scales(layer.weight, self.range, width)
            steps = ranges.scales_without_overflow(steps, layer.weight, layer.bias, scale, width)
            grids[path] = QuantizationGrid(scale, zero, 255, steps, (1 << (width - 1)) - 1)
        return edits, grids

    def _chosen(self, model: HashModel, path: str, grid: QuantizationGrid, pixels: Pixels, seed: int) -> Rounded:
        """Return whole numbers and biases of one layer, nearest or compensated."""
        layer: Any = get_layer(model.net, path)
        bias = torch.zeros(len(layer.weight)) if layer.bias is None else layer.bias.detach()
        small = layer.weight[0].numel() <= obs.MOST and getattr(layer, "groups", 1) == 1
        if self.rounding != "nearest" and small:
            return compensated(model, path, grid, pixels, seed), bias
        return nearest(layer.weight.detach(), grid), bias

    def _untreated(self, model: HashModel, layers: Mapping[str, Json]) -> dict[str, str]:
        reasons = externally_read(model) | skipped(model.net)
        usual = f"skipped, it did not run, it has rows of more than {ranges.WIDEST} weights,"
        for path, layer in model.net.named_modules():
            if isinstance(layer, nn.Conv2d) and path not in layers:
                reasons.setdefault(path, f"{usual} or its padding is not a number of zeros")
            elif isinstance(layer, nn.Linear) and path not in layers:
                reasons.setdefault(path, f"{usual} or its inputs have more than two axes")
            elif isinstance(layer, nn.BatchNorm2d | nn.BatchNorm1d):
                reasons[path] = "a batch norm in float32; fold it first"
        return reasons


def compensated(model: HashModel, path: str, grid: QuantizationGrid, pixels: Pixels, seed: int) -> Tensor:
    """Return whole numbers, rounded one column after the other with compensation by the remaining ones (GPTQ)."""
    layer: Any = get_layer(model.net, path)
    moments = patch_moments(model, pixels, path, seed=seed)[0]
    square = torch.from_numpy(moments.covariance + np.outer(moments.mean, moments.mean))
    steps = grid.steps.double()

    def onto(values: Tensor, rows: Tensor) -> Tensor:
        return torch.clamp(torch.round(values / steps[rows]), -grid.top, grid.top) * steps[rows]

    rounded = obs.quantise_blocked(layer.weight.detach().flatten(1), obs.damped(2 * square), onto, keep_zeros=False)
    return torch.round(rounded / steps[:, None]).float().reshape(layer.weight.shape)


@torch.no_grad()
def fill(layer: Any, integers: Tensor, bias: Tensor, grid: QuantizationGrid, edit: Quantized) -> None:
    """Set the values of an integer layer."""
    unit = edit.scale * grid.steps.double()  # what 1 in an accumulator is worth
    layer.form.integers.copy_(integers)
    put_bias(layer, torch.round(bias.double() / unit))
    layer.multiplier.copy_(unit / (edit.step or 1.0))


def rounded_of(layer: Any, grid: QuantizationGrid, edit: Quantized) -> Rounded:
    """Return the whole numbers of an integer layer and its bias as real numbers."""
    return layer.form.integers, (layer.bias.double() * edit.scale * grid.steps.double()).float()


@torch.no_grad()
def means(model: HashModel, paths: Sequence[str], pixels: Pixels) -> dict[str, Tensor]:
    """Return the mean output (O,) of each channel of the layers at ``paths``, over images, positions and their first calls."""
    totals: dict[str, Tensor] = {}

    def add(path: str, _inputs: Tensor, output: Tensor) -> None:
        totals[path] = totals.get(path, 0.0) + _summed(output)

    taps = {path: partial(add, path) for path in paths}
    observe(
        model.net, model.arch.input, pixels, taps, what="mean outputs", batch=BATCH, values=ranges.VALUES, first=True
    )
    return {path: total / len(pixels) for path, total in totals.items()}


def _summed(output: Tensor) -> Tensor:
    """Return the sum over images, and the mean over positions, of outputs (N, O[, H, W]): (O,), float64."""
    return output.double().flatten(2).mean(2).sum(0) if output.ndim > 2 else output.double().sum(0)


@torch.no_grad()
def correct(
    net: nn.Module,
    model: HashModel,
    path: str,
    pixels: Pixels,
    grid: QuantizationGrid,
    edit: Quantized,
    expected: Tensor,
) -> None:
    """Add the mean error (O,) of every output channel to the bias (Nagel et al. 2019, arXiv:1906.04721)."""
    total, batch = torch.zeros(len(grid.steps), dtype=torch.float64), fitting_batch(pixels, BATCH, ranges.VALUES)
    for start in range(0, len(pixels), batch):
        total += _summed(first_call(net, path, model.arch.input.tensor(pixels[start : start + batch]))[1])
    layer: Any = get_layer(net, path)
    error = expected - total / len(pixels)
    put_bias(layer, layer.bias + torch.round(error / (edit.scale * grid.steps.double())).float())
