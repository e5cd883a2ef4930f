"""Biases and batch norm as part of the packed weights: both are folded once, when the model is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from ..grids import Grid


@dataclass(frozen=True)
class Norm:
    """A batch norm in evaluation mode: four tensors (weight, bias, mean, variance) and ``epsilon``."""

    epsilon: float


def scale_of(norm: Norm | None, bias: bool, raw: Sequence[Any], channel: Any) -> Any:
    """Return the factor of a channel's weights; ``raw`` is weight, perhaps bias, perhaps the four of the norm."""
    if norm is None:
        return T.float32(1)
    gamma, _, _, variance = raw[1 + bias :]
    return gamma[channel] / tirx.sqrt(variance[channel] + T.float32(norm.epsilon))


def scaled_bias(norm: Norm | None, bias: bool, raw: Sequence[Any], packed: Any, target: Grid, start: int) -> None:
    """Emit the loop that writes the biases of all channel blocks at ``start``, zero behind the last channel."""
    with T.serial(0, target.blocks * target.block) as channel:
        with T.If(channel < target.channels):
            with T.Then():
                value = raw[1][channel] if bias else T.float32(0)
                if norm is not None:
                    _, beta, mean, _ = raw[1 + bias :]
                    value = (value - mean[channel]) * scale_of(norm, bias, raw, channel) + beta[channel]
                T.buffer_store(packed, value, [start + channel])
            with T.Else():
                T.buffer_store(packed, T.float32(0), [start + channel])
