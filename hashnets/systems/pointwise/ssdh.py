"""Supervised semantics-preserving hashing (Yang, Lin & Chen, TPAMI 2017, arXiv:1507.00101)."""

from __future__ import annotations

from torch import Tensor

from ....core.model import Arch
from ...losses.classes import class_entropy
from ..base import Batch, ClassLayer, System
from ..relaxations import Sigmoid


class Ssdh(System):
    """SSDH: a class layer on sigmoids, which are pushed away from one half, half of them on in each code.

    ``push`` and ``even`` weigh the two terms; the published weights are 1. The second is a mean over the bits of an item,
    as in the authors' layers, not over the items of a bit.
    """

    def __init__(
        self, arch: Arch, classes: int, items: int, seed: int, *, push: float = 1.0, even: float = 1.0  # noqa: ARG002  # the same for all systems
    ) -> None:  # fmt: skip
        super().__init__(push=float(push), even=float(even))
        self.push, self.even = float(push), float(even)
        self.relax = Sigmoid()
        self.classes = ClassLayer("ssdh", arch.bits, classes, seed)

    def forward(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the scalar loss of ``outputs`` (B, bits)."""
        codes = self.relax(outputs)
        away, even = (codes - 0.5).square().mean(), (codes.mean(1) - 0.5).square().mean()
        return class_entropy(self.classes(codes), batch.labels) - self.push * away / 2 + self.even * even / 2
