"""What a system is while it trains: a callable loss with state of its own (class layer, code bank, centres)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ...core.data.items import Items
from ...core.errors import InputError
from ...core.model import Json
from ..losses.centers import hash_centers, targets


@dataclass(frozen=True)
class Batch:
    """Training items: their places in the training set, the network's inputs, their labels."""

    index: Tensor  # (B,) int64
    inputs: Tensor  # (B, ...) as Input.tensor gives them, such as (B, C, H, W) float32, normalised
    labels: Tensor  # (B,) int64; multi-labels (B, classes) float32, zeros and ones


class Objective(Protocol):
    """A loss on the network's outputs; nothing of it is part of the network or of its file."""

    @property
    def settings(self) -> Mapping[str, Json]:
        """What decides the loss beside its state; runs with other settings do not resume each other."""

    def __call__(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the scalar loss of ``outputs`` (B, bits)."""

    def to(self, device: torch.device) -> Any:
        """Move state and parameters to the device that trains."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Return what is trained beside the network."""

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a resumed run needs and training changes, as tensors."""

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """Take back what :meth:`state_dict` gave."""

    def prepare(self, net: nn.Module, items: Items) -> None:
        """Look at the network and all training items once, before the first epoch, a resumed one included."""

    def end_epoch(self) -> None:
        """Note that every training item has been seen once more."""


class System(nn.Module):
    """A base for systems: ``forward(outputs, batch)`` is the loss, made from ``(arch, classes, items, seed, *, settings)``.

    Parameters train with the network, buffers are kept in training checkpoints, ``settings`` are checked there. With
    ``on_features`` the encoder stays as it is: its features are the inputs, and the head alone is trained, or is what
    ``solve(features)`` returns, a weight (bits, D) and a bias (bits,) for features (N, D).
    """

    on_features = False

    def __init__(self, **settings: Json) -> None:
        super().__init__()
        self.settings = settings

    def prepare(self, net: nn.Module, items: Items) -> None:
        """Look at the network and all training items once, before the first epoch, a resumed one included."""

    def end_epoch(self) -> None:
        """Pass the end of an epoch on to the parts that change with it."""
        for part in self.children():
            change = getattr(part, "end_epoch", None)
            if callable(change):
                change()


class ClassLayer(nn.Linear):
    """Scores (B, classes) of codes (B, bits), drawn from the seed; it trains beside the network and is no part of it.

    Raises:
        InputError: the data have no classes.
    """

    def __init__(self, system: str, bits: int, classes: int, seed: int) -> None:
        _check_classes(system, classes)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            super().__init__(bits, classes)


class ClassCenters(nn.Module):
    """A fixed code of -1 and +1 for every class, :func:`hash_centers`, and the code that an item's labels ask for.

    Raises:
        InputError: the data have no classes.
    """

    codes: Tensor
    ties: Tensor

    def __init__(self, system: str, bits: int, classes: int, seed: int) -> None:
        super().__init__()
        _check_classes(system, classes)
        self.register_buffer("codes", hash_centers(classes, bits, seed))
        draws = torch.rand(bits, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("ties", torch.where(draws < 0.5, -1.0, 1.0))

    def forward(self, labels: Tensor) -> Tensor:
        """Return codes (B, bits) for labels (B,) or (B, classes)."""
        return targets(self.codes, labels, self.ties)


def _check_classes(system: str, classes: int) -> None:
    if classes < 1:
        raise InputError(
            f"{system} learns to tell classes, and the data have none; take a pair-wise system such as dpsh"
        )
