"""What a system is while it trains: a callable loss with state of its own (class layer, code bank, centres)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn


@dataclass(frozen=True)
class Batch:
    """Training items: their places in the training set, the network's inputs, the classes."""

    index: Tensor  # (B,) int64
    inputs: Tensor  # (B, C, H, W) float32, normalised
    labels: Tensor  # (B,) int64


class Objective(Protocol):
    """A loss on the network's outputs; nothing of it is part of the network or of its file."""

    def __call__(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the scalar loss of ``outputs`` (B, bits)."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Return what is trained beside the network."""

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a resumed run needs, as tensors."""

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """Take back what :meth:`state_dict` gave."""

    def end_epoch(self) -> None:
        """Note that every training item has been seen once more."""
