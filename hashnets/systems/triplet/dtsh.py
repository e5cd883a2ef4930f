"""Deep supervised hashing with triplet labels (Wang, Shi & Kitani, ACCV 2016, arXiv:1612.03900)."""

from __future__ import annotations

from torch import Tensor

from ....core.model import Arch
from ...losses.quantisation import quantisation_l2
from ...losses.triplets import triplet_likelihood
from ..base import Batch, System
from ..relaxations import Identity


class Dtsh(System):
    """DTSH: likelihood of the triplets of a batch on half the inner product, plus ``eta`` times the distance from corners.

    The margin is half the bits, as in the authors' code. Both terms are means.
    """

    def __init__(self, arch: Arch, classes: int, items: int, seed: int, *, eta: float = 0.1) -> None:  # noqa: ARG002  # the same for all systems
        super().__init__(eta=float(eta))
        self.eta, self.margin = float(eta), arch.bits / 2
        self.relax = Identity()

    def forward(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the scalar loss of ``outputs`` (B, bits)."""
        codes = self.relax(outputs)
        ranking = triplet_likelihood(0.5 * codes @ codes.T, batch.labels, self.margin)
        return ranking + self.eta * quantisation_l2(codes)
