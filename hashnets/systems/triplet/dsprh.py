"""Deep semantic-preserving and ranking-based hashing (Yao, Long, Mei & Rui, IJCAI 2016)."""

from __future__ import annotations

from torch import Tensor

from ....core.model import Arch
from ...losses.classes import class_entropy
from ...losses.quantisation import decorrelation, quantisation_l2
from ...losses.triplets import triplet_hinge
from ..base import Batch, ClassLayer, System
from ..relaxations import Tanh


class Dsprh(System):
    """DSPRH: two streams on the code, a triplet ranking and a class layer, with bits that are independent of each other.

    ``ranking``, ``independence`` and ``quantisation`` weigh the terms beside the cross-entropy; ``margin`` is a share of
    the bits. The paper's weights are not published.
    """

    def __init__(
        self,
        arch: Arch,
        classes: int,
        items: int,  # noqa: ARG002  # every system takes the same four
        seed: int,
        *,
        ranking: float = 1.0,
        independence: float = 0.1,
        quantisation: float = 0.1,
        margin: float = 0.25,
    ) -> None:
        super().__init__(
            ranking=float(ranking),
            independence=float(independence),
            quantisation=float(quantisation),
            margin=float(margin),
        )
        self.relax = Tanh()
        self.classes = ClassLayer("dsprh", arch.bits, classes, seed)

    def forward(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the scalar loss of ``outputs`` (B, bits)."""
        codes, weigh = self.relax(outputs), self.settings
        distances = (1 - codes @ codes.T / codes.shape[1]) / 2
        return (
            class_entropy(self.classes(codes), batch.labels)
            + weigh["ranking"] * triplet_hinge(distances, batch.labels, weigh["margin"])
            + weigh["independence"] * decorrelation(codes)
            + weigh["quantisation"] * quantisation_l2(codes)
        )
