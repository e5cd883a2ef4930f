"""Deep Cauchy hashing for Hamming-space retrieval (Cao, Long, Liu & Wang, CVPR 2018)."""

from __future__ import annotations

from torch import Tensor

from ....core.model import Arch
from ...losses.batch_pairs import cauchy
from ...losses.quantisation import quantisation_cauchy
from ..base import Batch, System
from ..relaxations import Tanh


class Dch(System):
    """DCH: a Cauchy distribution over the Hamming distance of pairs draws similar items within a small radius.

    ``gamma`` is the scale of the distribution in bits, ``quantisation`` weighs the Cauchy quantisation loss.
    """

    def __init__(
        self, arch: Arch, classes: int, items: int, seed: int, *, gamma: float = 20.0, quantisation: float = 0.1  # noqa: ARG002  # the same for all systems
    ) -> None:  # fmt: skip
        super().__init__(gamma=float(gamma), quantisation=float(quantisation))
        self.gamma, self.quantisation = float(gamma), float(quantisation)
        self.relax = Tanh()

    def forward(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the scalar loss of ``outputs`` (B, bits)."""
        codes = self.relax(outputs)
        pairs = cauchy(codes, batch.labels, self.gamma)
        return pairs + self.quantisation * quantisation_cauchy(codes, self.gamma)
