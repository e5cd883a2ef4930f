"""Accumulation of second moments over batches of rows, for covariances and normal equations.

Sums are in double precision. Rows that are centred near their mean before they are added lose nothing to cancellation;
:meth:`SecondMoments.centre` then removes the remaining mean.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

STRIP = 256  # rows of the sums added to at once: a whole product would be as large as they are


class SecondMoments:
    """Accumulated sums x'x (D, D) as ``gram`` and x'y (D, O) as ``cross`` over rows x (N, D) and y (N, O); float64.

    Products are computed at the precision of the rows. Tensors are multiplied by torch, a strip of the sums at a time.
    Arrays are multiplied by numpy at once, which uses the symmetry of x'x and does half the work, but needs another
    matrix as large as the sums.
    """

    def __init__(self, size: int, others: int = 0) -> None:
        self.gram = torch.zeros(size, size, dtype=torch.float64)
        self.cross = torch.zeros(size, others, dtype=torch.float64)

    def add(self, x: Tensor, y: Tensor) -> None:
        """Add the products of rows x (N, D) with each other and with y (N, O)."""
        for start in range(0, len(self.gram), STRIP):
            part = slice(start, start + STRIP)
            self.gram[part] += x[:, part].T @ x
            self.cross[part] += x[:, part].T @ y

    def add_array(self, x: np.ndarray) -> None:
        """Add the products of rows x (N, D) with each other."""
        gram = self.gram.numpy()
        gram += x.T @ x

    def centre(self, mean: Tensor, others: Tensor, count: int) -> None:
        """Subtract the means (D,) of x and (O,) of y from the rows, of which there were ``count``."""
        self.gram.addr_(mean, mean, alpha=-count)
        self.cross.addr_(mean, others, alpha=-count)
