"""Codes whose inner products are a given similarity: the first stage of CNNH (Xia, Pan, Lai, Liu & Yan, AAAI 2014)."""

from __future__ import annotations

import numpy as np

SWEEPS = 5


def factorise(similar: np.ndarray, bits: int, seed: int, *, sweeps: int = SWEEPS) -> np.ndarray:
    """Return H (n, bits) in [-1, 1] that minimises ``|S - H H' / bits|^2``; S is +1 for ``similar`` (n, n) and -1 else.

    Coordinate descent: each value by one Newton step, clipped to the range, in random order. Memory is that of S in
    single precision; time is proportional to n^2 bits for each sweep.
    """
    generator = np.random.default_rng(seed)
    codes = generator.uniform(-1, 1, (len(similar), bits)).astype(np.float32)
    rest = codes @ codes.T - bits * np.where(similar, np.float32(1), np.float32(-1))  # H H' - bits S
    for _ in range(sweeps):
        for bit in generator.permutation(bits):
            column = codes[:, bit].copy()
            square = float(column @ column)
            for row in generator.permutation(len(codes)):
                value = column[row]
                slope = 4 * float(rest[row] @ column)
                bend = 4 * (square + float(value) ** 2 + float(rest[row, row]))
                step = np.float32(np.clip(-slope / bend if bend > 0 else -np.sign(slope), -1 - value, 1 - value))
                if step:
                    rest[row] += step * column
                    rest[:, row] += step * column
                    rest[row, row] += step * step
                    column[row] += step
                    square += float(2 * value * step + step * step)
            codes[:, bit] = column
    return codes


def distance(codes: np.ndarray, similar: np.ndarray) -> float:
    """Return ``|S - H H' / bits|^2``."""
    products = codes @ codes.T / codes.shape[1]
    return float(np.square(np.where(similar, 1.0, -1.0) - products).sum())
