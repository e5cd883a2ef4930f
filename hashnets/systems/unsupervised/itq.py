"""Iterative quantization of the features (Gong, Lazebnik, Gordo & Perronnin, TPAMI 2013)."""

from __future__ import annotations

from torch import Tensor

from ...solvers.rotation import iterative_quantization
from .closed_form import ClosedForm


class Itq(ClosedForm):
    """The principal components, rotated to lie near their signs (Gong et al. 2013)."""

    def solve(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return weight (bits, D) and bias (bits,) of the head for features (N, D)."""
        axes, mean = self.axes(features)
        weight = (axes @ iterative_quantization((features - mean) @ axes, self.seed)).T.contiguous()
        return weight, -weight @ mean
