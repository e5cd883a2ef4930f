"""Sums of products of rows that come in portions: what covariances and normal equations are made of.

Sums are kept in double precision. Who centres rows near their mean before they are added loses nothing to cancellation;
:meth:`SecondMoments.centre` then takes off what is left of the mean.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

STRIP = 256  # rows of the sums added to at once: a whole product would be as large as they are


class SecondMoments:
    """The sums x'x (D, D) as ``gram`` and x'y (D, O) as ``cross`` over rows x (N, D) and y (N, O); float64.

    Products have the precision of the rows. Tensors are multiplied by torch, a strip of the sums at a time. Arrays are
    multiplied by numpy all at once: it sees that x'x is symmetric and does half the work, at the price of a matrix as large
    as the sums.
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
        """Take the means (D,) of x and (O,) of y off the rows, of which there were ``count``."""
        self.gram.addr_(mean, mean, alpha=-count)
        self.cross.addr_(mean, others, alpha=-count)
