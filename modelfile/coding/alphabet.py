"""Alphabet of a stream: the symbols that occur in it and their frequencies, the head of every table."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ...core.errors import ModelFileError
from . import ans, tables
from .bits import ByteReader, signed, varint

NARROW = 1 << 16  # range of values up to which counting is faster than sorting
CHUNK = 1 << 20  # values counted at once
LARGEST = 1 << 62  # larger symbols are packed: their differences may not fit in 64 bits


class Alphabet(NamedTuple):
    """The bytes of the head, the entropy model, and the values as ranks among the symbols."""

    head: bytes
    model: ans.Model
    ranks: np.ndarray


def encode(values: np.ndarray) -> Alphabet | None:
    """Return the alphabet of a non-empty array; None if it has too many different values or too large ones."""
    symbols, ranks, counts = _counted(values.reshape(-1))
    if len(symbols) > tables.MAX_SYMBOLS or not -LARGEST <= int(symbols[0]) <= int(symbols[-1]) < LARGEST:
        return None
    gaps = np.diff(symbols) - 1
    gappy = bool(gaps.any())
    head = varint(len(symbols) << 1 | gappy) + signed(int(symbols[0]))
    head += b"".join(varint(int(gap)) for gap in gaps) if gappy else b""
    if len(symbols) == 1:
        return Alphabet(head, None, ranks)
    table, frequencies = tables.encode(counts)
    return Alphabet(head + table, ans.model(frequencies, tables.PRECISION), ranks)


def _counted(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the sorted symbols, the rank of each value among them and the count of each symbol."""
    low = int(values.min())
    if int(values.max()) - low > NARROW:
        return np.unique(values, return_inverse=True, return_counts=True)
    chunks = [slice(begin, begin + CHUNK) for begin in range(0, len(values), CHUNK)]
    counts = np.zeros(int(values.max()) - low + 1, dtype=np.int64)
    for chunk in chunks:
        counts += np.bincount(values[chunk].astype(np.int64) - low, minlength=len(counts))
    places = (np.cumsum(counts > 0) - 1).astype(np.uint16)  # at most NARROW + 1 of them; more than 65,536 are refused
    ranks = np.empty(len(values), dtype=np.uint16)
    for chunk in chunks:
        ranks[chunk] = places[values[chunk].astype(np.int64) - low]
    return np.flatnonzero(counts) + low, ranks, counts[counts > 0]


def decode(reader: ByteReader) -> tuple[np.ndarray, ans.Model]:
    """Return the symbols (K,) and their entropy model, None for a single symbol.

    Raises:
        ModelFileError: the alphabet is damaged.
    """
    size, first = reader.varint(), reader.signed()
    size, gappy = size >> 1, size & 1
    if not 1 <= size <= tables.MAX_SYMBOLS:
        raise ModelFileError(
            f"a coded stream has an alphabet of {size} symbols, at most {tables.MAX_SYMBOLS} are allowed"
        )
    gaps = [reader.varint() if gappy else 0 for _ in range(size - 1)]
    symbols = [first]
    for gap in gaps:
        symbols.append(symbols[-1] + gap + 1)
    if symbols[-1] >= LARGEST or symbols[0] < -LARGEST:
        raise ModelFileError("a coded stream has symbols of more than 62 bits")
    model = ans.model(tables.decode(reader, size), tables.PRECISION) if size > 1 else None
    return np.array(symbols, dtype=np.int64), model
