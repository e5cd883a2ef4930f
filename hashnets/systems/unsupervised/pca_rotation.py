"""Principal components of the features, rotated at random (Jegou, Douze, Schmid & Perez, CVPR 2010)."""

from __future__ import annotations

from torch import Tensor

from ...solvers.rotation import random_rotation
from .closed_form import ClosedForm


class PcaRotation(ClosedForm):
    """The principal components, rotated at random so that every bit has its share of the variance (Jegou et al. 2010)."""

    def solve(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return weight (bits, D) and bias (bits,) of the head for features (N, D)."""
        axes, mean = self.axes(features)
        weight = (axes @ random_rotation(self.bits, self.seed)).T.contiguous()
        return weight, -weight @ mean
