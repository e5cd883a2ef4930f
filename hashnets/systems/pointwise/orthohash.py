"""OrthoHash: one loss for all, a cosine to orthogonal codes with a margin (Hoe, Ng, Zhang et al., NeurIPS 2021, arXiv:2109.14449)."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import log_softmax, normalize, one_hot

from ....core.model import Arch
from ..base import Batch, ClassCenters, System


class OrthoHash(System):
    """Cross-entropy of ``scale (cos(u, c) - margin)`` over the codes of all classes, which stay as they are.

    The paper puts a batch norm before the cosine; here the head is what the network has.
    """

    def __init__(
        self, arch: Arch, classes: int, items: int, seed: int, *, scale: float = 8.0, margin: float = 0.2  # noqa: ARG002  # the same for all systems
    ) -> None:  # fmt: skip
        super().__init__(scale=float(scale), margin=float(margin))
        self.scale, self.margin = float(scale), float(margin)
        self.centers = ClassCenters("orthohash", arch.bits, classes, seed)

    def forward(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the scalar loss of ``outputs`` (B, bits)."""
        codes = self.centers.codes
        own = one_hot(batch.labels, len(codes)).to(outputs) if batch.labels.ndim == 1 else batch.labels.to(outputs)
        cosines = normalize(outputs) @ normalize(codes).T
        shares = own / own.sum(1, keepdim=True).clamp(min=1)
        return -(shares * log_softmax(self.scale * (cosines - self.margin * own), dim=1)).sum(1).mean()
