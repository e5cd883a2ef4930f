"""A head solved from the features of an encoder that stays as it is, without training."""

from __future__ import annotations

from torch import Tensor

from ....core.errors import InputError
from ....core.model import Arch
from ...solvers.rotation import principal_axes
from ..base import Batch, System


class ClosedForm(System):
    """A system without training: :meth:`solve` gives the head's weight and bias from the features of the training items."""

    on_features = True

    def __init__(self, arch: Arch, classes: int, items: int, seed: int) -> None:  # noqa: ARG002  # the same for all systems
        super().__init__()
        self.bits, self.seed = arch.bits, seed

    def forward(self, outputs: Tensor, batch: Batch) -> Tensor:  # noqa: ARG002  # there are no steps
        """Return 0."""
        return outputs.sum() * 0

    def solve(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return weight (bits, D) and bias (bits,) of the head for features (N, D)."""
        raise NotImplementedError

    def axes(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the principal axes (D, bits) and the mean (D,) of the features.

        Raises:
            InputError: fewer features than bits.
        """
        if features.shape[1] < self.bits:
            raise InputError(
                f"{features.shape[1]} features have no {self.bits} principal axes; take an encoder with more features, "
                "fewer bits, or the system lsh"
            )
        return principal_axes(features, self.bits)
