"""What an ideal entropy coder would spend, and what a price on its bits asks of a quantiser.

A symbol of probability p costs -log2 p bits (Shannon 1948); the adaptive coders of this folder come within some per cent of
it. A uniform quantiser of step s makes a mean squared error of s^2 / 12, and half the step costs one more bit (Gish & Pierce
1968).
"""

from __future__ import annotations

import math

import numpy as np

UNUSED = 40.0  # bits charged for a symbol that nothing uses, so that it hardly ever comes into use


def code_lengths(counts: np.ndarray, unused: float | None = None) -> np.ndarray:
    """Return the bits (K,) of each symbol for its ``counts`` (K,); what nothing uses costs ``unused``, or as half a use."""
    total = max(int(counts.sum()), 1)
    if unused is None:
        return -np.log2(np.maximum(counts, 0.5) / total)
    return np.where(counts > 0, -np.log2(np.maximum(counts, 1) / total), unused)


def total_bits(counts: np.ndarray, lengths: np.ndarray | None = None) -> float:
    """Return the bits of all symbols at ``lengths`` (K,), or at those of their own ``counts`` (K,)."""
    if lengths is None:
        counts = counts[counts > 0]
        lengths = code_lengths(counts)
    return float((counts * lengths).sum())


def step_at(price: float, share: float = 1.0, weight: float = 1.0) -> float:
    """Return the step s at which ``weight`` s^2 / 12 per value and ``price`` per bit together are the least.

    ``share`` is how many numbers are coded for one value whose error counts. Halving the step costs one bit for each of
    them: s^2 = 6 price share / (weight ln 2).
    """
    return math.sqrt(6 * price * share / math.log(2) / max(weight, 1e-30))
