"""Lossless coding of float32 tensors: as binary16, as a zero mask with values, as bit planes or as multiples of a step.

The first byte of a payload is the number of the form: RAW, HALF, SPARSE, PLANES or GRID.
"""

from __future__ import annotations

import math
from typing import cast

import numpy as np

from ...core.errors import ModelFileError
from . import integers
from .bits import ByteReader, varint
from .integers import Coded

RAW, HALF, SPARSE, PLANES, GRID = range(5)
MANTISSA = 23  # bits of a binary32
CODER = 16  # bytes that the state of the coder may save
SPARSE_FROM = 0.1  # share of zeros above which SPARSE is tried
GRID_FROM = 256  # number of values from which GRID is tried
GRID_STEPS = 1 << 11  # larger multiples save nothing
SMALLEST, MOST_SHIFT = -24, 40  # exponent of the smallest binary16, and the range of exponents above it


def encode(values: np.ndarray) -> Coded:
    """Return the shortest lossless stream of a float32 tensor; minus zero and NaN payloads are preserved."""
    return cast("Coded", encode_within(values, math.inf))


def encode_within(values: np.ndarray, max_bytes: float) -> Coded | None:
    """Return the result of :func:`encode`, None if it is longer than ``max_bytes``, often without encoding."""
    flat = np.ascontiguousarray(values, dtype="<f4").reshape(-1)
    zeros = flat.size - np.count_nonzero(flat.view("<u4"))
    stream = _sparse(values, flat) if zeros > SPARSE_FROM * flat.size else _dense_form(flat, max_bytes)
    return stream if stream is not None and len(stream.payload) <= max_bytes else None


def _sparse(values: np.ndarray, flat: np.ndarray) -> Coded:
    """Return a coded zero mask followed by the other values, or the dense form if that is shorter."""
    nonzero = flat.view("<u4") != 0
    mask = integers.encode(nonzero.reshape(values.shape))
    head = bytes([SPARSE]) + varint(len(mask.payload))
    nonzeros = dense(flat[nonzero])
    size = len(head) + len(mask.payload) + len(nonzeros.payload)
    whole = (
        None if size < MANTISSA * flat.size // 8 and _halves(flat) is None else dense(flat)
    )  # mantissas alone are as long
    if whole is not None and len(whole.payload) <= size:
        return whole
    payload = b"".join([head, mask.payload, nonzeros.payload])
    return Coded(payload, len(head) + mask.table_bytes + nonzeros.table_bytes)


def dense(flat: np.ndarray) -> Coded:
    """Return the shortest stream that codes every value, zeros included."""
    return cast("Coded", _dense_form(flat, math.inf))


def _dense_form(flat: np.ndarray, max_bytes: float) -> Coded | None:
    """Return the result of :func:`dense`, None if every remaining form is longer than ``max_bytes``."""
    half = _halves(flat)
    if half is not None:
        halves = Coded(bytes([HALF]) + half.tobytes(), 1)
        return min(halves, _grid(half) or halves, key=lambda coded: len(coded.payload))
    bits = flat.view("<u4")
    blocks = [bits[begin : begin + integers.BLOCK] for begin in range(0, len(bits), integers.BLOCK)]
    if min(flat.nbytes, _least(blocks)) > max_bytes:
        return None  # encoding would need twice the memory of the tensor
    high = integers.encode(np.concatenate([(block >> np.uint32(MANTISSA)).astype(np.uint16) for block in blocks]))
    head = bytes([PLANES]) + varint(len(high.payload))
    if 1 + flat.nbytes <= len(head) + len(high.payload) + (MANTISSA * flat.size + 7) // 8:
        return Coded(bytes([RAW]) + flat.tobytes(), 1)
    rest = np.uint32((1 << MANTISSA) - 1)
    low = (integers.pack_bits((block & rest).astype(np.uint64), MANTISSA) for block in blocks)
    return Coded(b"".join([head, high.payload, *low]), len(head) + high.table_bytes)


def _least(blocks: list[np.ndarray]) -> float:
    """Return a lower bound on the bytes of PLANES: mantissas, and the entropy of signs and exponents."""
    counts = np.zeros(1 << (32 - MANTISSA), dtype=np.int64)
    for block in blocks:
        counts += np.bincount(block >> np.uint32(MANTISSA), minlength=len(counts))
    total = counts.sum()
    entropy = float((counts[counts > 0] * np.log2(total / counts[counts > 0])).sum())
    return (MANTISSA * total + entropy) / 8 - CODER


def _halves(flat: np.ndarray) -> np.ndarray | None:
    """Return the values as binary16, None if that is lossy."""
    half = np.empty(len(flat), dtype="<f2")
    for begin in range(0, len(flat), integers.BLOCK):
        block = slice(begin, begin + integers.BLOCK)
        with np.errstate(over="ignore"):
            half[block] = flat[block]
        if (half[block].astype("<f4").view("<u4") != flat[block].view("<u4")).any():
            return None
    return half


def _grid(half: np.ndarray) -> Coded | None:
    """Return binary16 values (N,) as integer multiples of a power of two; None if they are too few or need too many steps."""
    if half.size < GRID_FROM or not np.isfinite(half).all() or (half.view("<u2") == 1 << 15).any():  # minus zero
        return None
    whole = np.ldexp(half.astype(np.float64), -SMALLEST).astype(np.int64)
    bits = int(np.bitwise_or.reduce(np.abs(whole)))
    shift = (bits & -bits).bit_length() - 1
    if shift < 0 or bits >> shift >= GRID_STEPS:
        return None
    steps = integers.encode(whole >> shift)
    return Coded(bytes([GRID, shift]) + steps.payload, 2 + steps.table_bytes)


def decode(payload: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """Return the float32 tensor of ``shape`` that was encoded.

    Raises:
        ModelFileError: the stream is damaged or does not match the shape.
    """
    count = math.prod(shape)
    reader = ByteReader(payload)
    if payload[:1] != bytes([SPARSE]):
        return _dense(reader, count).reshape(shape)
    reader.byte()
    mask = integers.decode(reader.take(reader.varint()), shape)
    if ((mask != 0) & (mask != 1)).any():
        raise ModelFileError("the mask of a sparse tensor has other values than 0 and 1")
    values = np.zeros(shape, dtype=np.float32)
    values[mask.astype(bool)] = _dense(reader, int(mask.sum()))
    return values


def _dense(reader: ByteReader, count: int) -> np.ndarray:
    kind = reader.byte()
    if kind == GRID:
        return _steps(reader, count)
    if kind in (RAW, HALF):
        size = 4 if kind == RAW else 2
        body = reader.rest()
        if len(body) != size * count:
            raise ModelFileError(f"{len(body)} bytes do not hold {count} numbers of {size} bytes")
        return np.frombuffer(body, dtype=f"<f{size}").astype(np.float32)
    if kind != PLANES:
        raise ModelFileError(f"a float stream has the unknown form {kind}")
    high = integers.decode(reader.take(reader.varint()), (count,))
    if ((high < 0) | (high >= 1 << 9)).any():
        raise ModelFileError("a float stream has an exponent of more than nine bits")
    low = integers.unpack_bits(reader.rest(), MANTISSA, count)
    return ((high.astype(np.uint32) << np.uint32(MANTISSA)) | low.astype(np.uint32)).view(np.float32)


def _steps(reader: ByteReader, count: int) -> np.ndarray:
    shift = reader.byte()
    steps = integers.decode(reader.rest(), (count,))
    if shift > MOST_SHIFT or ((steps <= -GRID_STEPS) | (steps >= GRID_STEPS)).any():
        raise ModelFileError("a float stream has steps outside the range of binary16")
    return np.ldexp(steps.astype(np.float32), shift + SMALLEST)
