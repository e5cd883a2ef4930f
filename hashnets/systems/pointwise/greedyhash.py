"""GreedyHash: the sign in the forward pass, its gradient that of the identity (Su, Zhang, Han & Tian, NeurIPS 2018)."""

from __future__ import annotations

from torch import Tensor

from ....core.model import Arch
from ...losses.classes import class_entropy
from ...losses.quantisation import quantisation_cubic
from ..base import Batch, ClassLayer, System
from ..relaxations import StraightThrough


class GreedyHash(System):
    """A class layer on the code itself, plus ``alpha`` times the mean of ||u| - 1|^3."""

    def __init__(self, arch: Arch, classes: int, items: int, seed: int, *, alpha: float = 0.1) -> None:  # noqa: ARG002  # the same for all systems
        super().__init__(alpha=float(alpha))
        self.alpha = float(alpha)
        self.relax = StraightThrough()
        self.classes = ClassLayer("greedyhash", arch.bits, classes, seed)

    def forward(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the scalar loss of ``outputs`` (B, bits)."""
        scores = self.classes(self.relax(outputs))
        return class_entropy(scores, batch.labels) + self.alpha * quantisation_cubic(outputs)
