"""Calibration of quantization: ranges of layer inputs, and scales of inputs and weights.

``minmax`` covers all observed values; ``percentile`` cuts off the rarest ones; ``mse`` is the range with the least mean
squared error of rounding and clipping.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from ...core.data.images import Pixels
from ...core.model import HashModel
from ...core.usable_weights import max_abs
from ..observe.runner import observe

RANGES = ("minmax", "percentile", "mse")
BATCH, VALUES = 32, 1 << 20  # images that run together: at most so many, with so many values
CHUNK = 1 << 17  # weights processed at once, which stay in the cache
SAMPLES = 1 << 13  # values sampled from each batch
PERCENTILE = 0.99999  # as ONNX Runtime: ten times more cut off flipped half as many bits again
BIASES = float(1 << 23)  # of a bias in units of the accumulator, where kernels that add up in float32 are exact
PRODUCTS = float(1 << 30)  # how large the sum beside it: half of what int32 holds
WIDEST = 1 << 20  # weights of a row, more of which may be too much for any step
SHRINKS = np.linspace(1.0, 0.3, 57)  # ranges tried, as shares of the whole


@dataclass(eq=False)
class ObservedRange:
    """Observed range of the inputs of a layer, and the largest absolute output."""

    low: float = 0.0
    high: float = 0.0
    reach: float = 0.0
    samples: np.ndarray = None  # type: ignore[assignment]  # (N,), filled when all images were seen
    axes: int = 0  # of the inputs; none when the layer did not run


@torch.no_grad()
def observe_ranges(model: HashModel, pixels: Pixels, paths: Sequence[str], seed: int = 0) -> dict[str, ObservedRange]:
    """Return the observed ranges of the layers at ``paths`` on ``pixels``."""
    observed = {path: ObservedRange() for path in paths}
    samples: dict[str, list[Tensor]] = {path: [] for path in paths}
    generator = torch.Generator().manual_seed(seed)

    def note(path: str, inputs: Tensor, output: Tensor) -> None:
        one, values = observed[path], inputs.flatten()
        one.axes = inputs.ndim
        one.low, one.high = min(one.low, float(values.min())), max(one.high, float(values.max()))
        one.reach = max(one.reach, max_abs(output))
        samples[path].append(values[torch.randint(len(values), (SAMPLES,), generator=generator)])

    taps = {path: partial(note, path) for path in paths}
    observe(model.net, model.arch.input, pixels, taps, what="ranges", batch=BATCH, values=VALUES)
    for path, one in observed.items():
        one.samples = torch.cat(samples[path]).numpy() if samples[path] else np.empty(0, np.float32)
    return observed


def limits(observed: ObservedRange, how: str, bits: int) -> tuple[float, float]:
    """Return the range (low, high) for rounding inputs; it includes zero."""
    if how == "minmax":
        return observed.low, observed.high
    if how == "percentile":
        low, high = np.quantile(observed.samples, [1 - PERCENTILE, PERCENTILE])
        return min(float(low), 0.0), max(float(high), 0.0)
    errors = [_error(observed.samples, observed.low * share, observed.high * share, bits) for share in SHRINKS]
    best = float(SHRINKS[int(np.argmin(errors))])
    return observed.low * best, observed.high * best


def affine(low: float, high: float, bits: int) -> tuple[float, int]:
    """Return scale (a float32 value) and zero point of a range that includes zero."""
    top = (1 << bits) - 1
    scale = np.float32(max((high - low) / top, 1e-12))
    return float(scale), int(np.clip(np.rint(-low / scale), 0, top))


def weight_scales(weight: Tensor, how: str, bits: int) -> Tensor:
    """Return one scale per output channel (O,) for whole numbers in +-(2^(bits-1) - 1)."""
    rows = weight.detach().flatten(1)
    step = max(1, CHUNK // rows.shape[1])
    return torch.cat([_row_scales(part.double(), how, bits) for part in rows.split(step)])


def _row_scales(rows: Tensor, how: str, bits: int) -> Tensor:
    top = (1 << (bits - 1)) - 1
    whole = rows.abs().amax(1).clamp_min(1e-12) / top
    if how != "mse":
        return whole.float()
    best, least = whole.clone(), torch.full_like(whole, torch.inf)
    for share in SHRINKS:
        scale = whole * float(share)
        rounded = (rows / scale[:, None]).round_().clamp_(-top, top).mul_(scale[:, None])
        error = rounded.sub_(rows).square_().sum(1)
        best, least = torch.where(error < least, scale, best), torch.minimum(error, least)
    return best.float()


def scales_without_overflow(steps: Tensor, weight: Tensor, bias: Tensor | None, scale: float, bits: int) -> Tensor:
    """Return ``steps`` (O,), increased where the bias of a row or its sum of products could overflow, for any rounding.

    A row that is zero, or nearly, has such a small step that its bias would exceed the integer range of the kernels.
    """
    rows, high = weight.detach().flatten(1), 255.0
    least = (
        torch.zeros(len(rows), dtype=torch.float64) if bias is None else bias.detach().double().abs() / BIASES / scale
    )
    inputs = rows.shape[1]
    if inputs * high * ((1 << (bits - 1)) - 1) > PRODUCTS:  # rounding adds a half to each weight, learning one more
        sums = torch.cat([part.double().abs().sum(1) for part in rows.split(max(1, CHUNK // inputs))])
        least = torch.maximum(least, sums * high / (PRODUCTS - 1.5 * inputs * high))
    least = least.float()
    return torch.where(least > steps, least, steps)


def grid_step(reach: float) -> float:
    """Return the smallest power of two of which 2^14 multiples cover ``reach``."""
    return float(2.0 ** (np.ceil(np.log2(max(reach, 1e-30))) - 14))


def _error(values: np.ndarray, low: float, high: float, bits: int) -> float:
    scale, zero = affine(low, high, bits)
    whole = np.clip(np.rint(values / scale) + zero, 0, (1 << bits) - 1) - zero
    return float(np.mean((whole * scale - values) ** 2))


def layers_of(net: nn.Module) -> list[str]:
    """Return the convolutions and dense layers that can be quantized, in order."""
    return [
        path
        for path, layer in net.named_modules()
        if isinstance(layer, nn.Linear)
        or (isinstance(layer, nn.Conv2d) and layer.padding_mode == "zeros" and not isinstance(layer.padding, str))
    ]
