"""A classifier with a code: one bit per class, set when the network says yes to that class."""

from __future__ import annotations

from torch import Tensor

from ....core.errors import InputError
from ....core.model import Arch
from ...losses.classes import class_entropy, one_hot_entropy
from ..base import Batch, System


class Onehot(System):
    """One bit per class: cross-entropy of the largest output plus ``weight`` times a binary entropy for every bit."""

    def __init__(self, arch: Arch, classes: int, items: int, seed: int, *, weight: float = 0.1) -> None:  # noqa: ARG002  # the same for all systems
        super().__init__(weight=float(weight))
        if arch.bits != classes:
            raise InputError(
                f"onehot needs one bit per class: the network has {arch.bits} bits, the data {classes} classes"
            )
        self.weight = float(weight)

    def forward(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the scalar loss of ``outputs`` (B, classes)."""
        return class_entropy(outputs, batch.labels) + self.weight * one_hot_entropy(outputs, batch.labels)
