"""Fast Walsh-Hadamard transform, orthonormal, in natural order, with d log2 d additions.

The same code runs on numpy and torch; both add in the same order and give the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ...core.errors import InputError

Join = Callable[[tuple[Any, ...], int], Any]  # np.concatenate or torch.cat


def padded_size(size: int) -> int:
    """Return the smallest power of two that is at least ``size``."""
    return 1 << max(size - 1, 0).bit_length()


def walsh(values: Any, join: Join) -> Any:
    """Return H x / sqrt(d) along the last axis of ``values`` (..., d); the transform is its own inverse.

    Every step adds and subtracts neighbours and puts sums before differences: the lowest bit of the position becomes
    the highest, and after log2 d steps the order is the original one.

    Raises:
        InputError: d is not a power of two.
    """
    size = values.shape[-1]
    if size < 1 or size & (size - 1):
        raise InputError(f"a Walsh-Hadamard transform needs a power of two as size, found {size}")
    for _ in range(size.bit_length() - 1):
        even, odd = values[..., 0::2], values[..., 1::2]
        values = join((even + odd, even - odd), -1)
    return values * (1.0 / math.sqrt(size))
