"""Vectorised xxHash32 of pairs of integers, from which hashed weights, permutations and signs are drawn.

A pair (i, j) is hashed as eight bytes: i, then j, both 32-bit little-endian on every machine, as a C implementation does. (Collet, "xxHash fast digest algorithm", doc/xxhash_spec.md, XXH32 without full stripes.)
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np

PRIME1, PRIME2, PRIME3, PRIME4, PRIME5 = 2654435761, 2246822519, 3266489917, 668265263, 374761393
MASK = 0xFFFFFFFF


def hash_pairs(rows: np.ndarray, columns: np.ndarray, seed: int) -> np.ndarray:
    """Return XXH32 of (rows, columns) as uint32; the arrays are broadcast."""
    start = np.uint32((seed + PRIME5 + 8) & MASK)
    first = _rotated(np.atleast_1d(rows).astype(np.uint32) * np.uint32(PRIME3) + start, 17) * np.uint32(PRIME4)
    values = first + np.atleast_1d(columns).astype(np.uint32) * np.uint32(PRIME3)
    values = _rotated(values, 17)
    values *= np.uint32(PRIME4)
    for shift, prime in ((15, PRIME2), (13, PRIME3)):
        values ^= values >> np.uint32(shift)
        values *= np.uint32(prime)
    values ^= values >> np.uint32(16)
    return values


def remainders(values: np.ndarray, divisor: int) -> np.ndarray:
    """Return ``values % divisor``, several times faster than numpy's remainder by a scalar."""
    quotients = values // np.uint32(divisor)
    quotients *= np.uint32(divisor)
    return values - quotients


@lru_cache(maxsize=64)
def permutation(size: int, block: int, seed: int) -> np.ndarray:
    """Return the permutation (size,) int64 that sorts positions by their hashes, ties by position."""
    keys = hash_pairs(np.array([block]), np.arange(size, dtype=np.uint32), seed)
    order = np.argsort(keys, kind="stable")
    order.flags.writeable = False
    return order


def random_signs(size: int, block: int, seed: int) -> np.ndarray:
    """Return ``size`` signs, -1 or 1, as float32, independent of :func:`permutation`."""
    hashes = hash_pairs(np.array([block]), np.arange(size, dtype=np.uint32), seed ^ PRIME2)
    return 1 - 2 * (hashes >> np.uint32(31)).astype(np.float32)


def layer_seed(seed: int, layer: str) -> int:
    """Return a 32-bit seed derived from ``seed`` and the name of a layer."""
    return int.from_bytes(hashlib.sha256(f"{seed} {layer}".encode()).digest()[:4], "little")


def _rotated(values: np.ndarray, bits: int) -> np.ndarray:
    return (values << np.uint32(bits)) | (values >> np.uint32(32 - bits))
