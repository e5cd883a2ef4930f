"""Frequency tables in few bits: an exponent and a short mantissa per symbol, normalised in integer arithmetic."""

from __future__ import annotations

import numpy as np

from ...core.errors import ModelFileError
from .bits import BitWriter, ByteReader

PRECISION = 14
EXPONENT_BITS = 4
MAX_MANTISSA = 7
MAX_SYMBOLS = 1 << 12  # larger alphabets are packed


def normalise(weights: np.ndarray) -> np.ndarray:
    """Return positive integers proportional to ``weights`` that sum to ``1 << PRECISION``; the largest takes the remainder."""
    total = int(weights.sum())
    spare = (1 << PRECISION) - len(weights)
    frequencies = 1 + weights.astype(np.int64) * spare // total
    frequencies[int(np.argmax(frequencies))] += (1 << PRECISION) - int(frequencies.sum())
    return frequencies


def quantise(counts: np.ndarray, mantissa: int) -> tuple[np.ndarray, np.ndarray]:
    """Return exponents and mantissas of positive ``counts``, scaled so that the largest has the top exponent."""
    top = (1 << EXPONENT_BITS) - 1
    scaled = counts / counts.max() * (2.0**top)
    exponents = np.clip(np.floor(np.log2(np.maximum(scaled, 1.0))), 0, top).astype(np.int64)
    mantissas = np.rint((scaled / 2.0**exponents - 1.0) * (1 << mantissa)).astype(np.int64)
    over = (mantissas >> mantissa) > 0
    below_top = over & (exponents < top)
    exponents[below_top] += 1
    mantissas[below_top] = 0
    return exponents, np.clip(mantissas, 0, (1 << mantissa) - 1)


def weights(exponents: np.ndarray, mantissas: np.ndarray, mantissa: int) -> np.ndarray:
    """Return the integers with these exponents and mantissas."""
    return ((1 << mantissa) + mantissas) << exponents


def cost(counts: np.ndarray, frequencies: np.ndarray) -> float:
    """Return the bits needed to code symbols that occur ``counts`` times with a model of ``frequencies``."""
    return float(np.sum(counts * (PRECISION - np.log2(frequencies))))


def encode(counts: np.ndarray) -> tuple[bytes, np.ndarray]:
    """Return the table that minimises the bits of table and symbols for positive ``counts``, and its frequencies."""
    best: tuple[float, bytes, np.ndarray] | None = None
    for mantissa in range(MAX_MANTISSA + 1):
        exponents, mantissas = quantise(counts, mantissa)
        frequencies = normalise(weights(exponents, mantissas, mantissa))
        bits = cost(counts, frequencies) + len(counts) * (EXPONENT_BITS + mantissa)
        if best is None or bits < best[0]:
            writer = BitWriter()
            writer.write(mantissa, 3)
            for exponent, value in zip(exponents.tolist(), mantissas.tolist(), strict=True):
                writer.write(exponent, EXPONENT_BITS)
                writer.write(value, mantissa)
            best = (bits, writer.to_bytes(), frequencies)
    assert best is not None  # noqa: S101  # the loop runs
    return best[1], best[2]


def decode(reader: ByteReader, symbols: int) -> np.ndarray:
    """Return the frequencies in a table of ``symbols`` entries.

    Raises:
        ModelFileError: the size is out of range.
    """
    if not 2 <= symbols <= MAX_SYMBOLS:
        raise ModelFileError(f"a coded stream has an alphabet of {symbols} symbols, at most {MAX_SYMBOLS} are allowed")
    mantissa = reader.bits(3)
    pairs = np.array([(reader.bits(EXPONENT_BITS), reader.bits(mantissa)) for _ in range(symbols)], dtype=np.int64)
    reader.align()
    return normalise(weights(pairs[:, 0], pairs[:, 1], mantissa))
