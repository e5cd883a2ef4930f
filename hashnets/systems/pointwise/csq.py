"""Central similarity quantization (Yuan, Wang, Zhang et al., CVPR 2020, arXiv:1908.00347)."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from ....core.model import Arch
from ...losses.quantisation import quantisation_l2
from ..base import Batch, ClassCenters, System
from ..relaxations import Tanh


class Csq(System):
    """CSQ: every bit of tanh(u), as a probability, is drawn to the bit of its class's hash centre.

    ``quantisation`` weighs the mean of (|tanh u| - 1)^2. Items of several classes take the sign of the sum of their
    centres, items of none a code drawn by chance.
    """

    def __init__(self, arch: Arch, classes: int, items: int, seed: int, *, quantisation: float = 1e-4) -> None:  # noqa: ARG002  # the same for all systems
        super().__init__(quantisation=float(quantisation))
        self.quantisation = float(quantisation)
        self.relax = Tanh()
        self.centers = ClassCenters("csq", arch.bits, classes, seed)

    def forward(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the scalar loss of ``outputs`` (B, bits)."""
        wanted = (self.centers(batch.labels) + 1) / 2
        # the probability (tanh u + 1) / 2 is sigmoid(2 u), whose logarithm is exact where tanh has rounded to 1
        return binary_cross_entropy_with_logits(2 * outputs, wanted) + self.quantisation * quantisation_l2(
            self.relax(outputs)
        )
