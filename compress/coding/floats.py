"""Float tensors as byte streams, bit for bit: halves where nothing is lost, zeros as symbols, exponents coded, grids.

A payload starts with the form's number.
"""

from __future__ import annotations

import math

import numpy as np

from ...core.errors import ModelFileError
from . import integers
from .bits import ByteReader, varint
from .integers import Coded

RAW, HALF, SPARSE, PLANES, GRID = range(5)
MANTISSA = 23  # bits of a binary32
SPARSE_FROM = 0.1  # share of zeros from which the sparse form is tried
GRID_FROM = 256  # values from which halves are tried as whole numbers
GRID_STEPS = 1 << 11  # whole numbers above that save nothing
SMALLEST, MOST_SHIFT = -24, 40  # powers of two: of the smallest half, from there to the largest


def encode(values: np.ndarray) -> Coded:
    """Return the shortest lossless stream of a float32 tensor; minus zero and NaN keep their bits."""
    flat = np.ascontiguousarray(values, dtype="<f4").reshape(-1)
    candidates = [dense(flat)]
    zeros = flat.view("<u4") == 0
    if zeros.mean() > SPARSE_FROM if flat.size else False:
        mask = integers.encode((~zeros).astype(np.int64).reshape(values.shape))
        head = bytes([SPARSE]) + varint(len(mask.payload))
        survivors = dense(flat[~zeros])
        payload = head + mask.payload + survivors.payload
        candidates.append(Coded(payload, len(head) + mask.table_bytes + survivors.table_bytes))
    return min(candidates, key=lambda coded: len(coded.payload))


def dense(flat: np.ndarray) -> Coded:
    """Return the shortest form that codes every value."""
    with np.errstate(over="ignore"):
        half = flat.astype("<f2")
    if (half.astype("<f4").view("<u4") == flat.view("<u4")).all():
        halves = Coded(bytes([HALF]) + half.tobytes(), 1)
        return min(halves, _grid(half) or halves, key=lambda coded: len(coded.payload))
    raw = Coded(bytes([RAW]) + flat.tobytes(), 1)
    high = integers.encode((flat.view("<u4") >> np.uint32(MANTISSA)).astype(np.int64))
    head = bytes([PLANES]) + varint(len(high.payload))
    low = integers.pack_bits((flat.view("<u4") & np.uint32((1 << MANTISSA) - 1)).astype(np.uint64), MANTISSA)
    planes = Coded(head + high.payload + low, len(head) + high.table_bytes)
    return min(raw, planes, key=lambda coded: len(coded.payload))


def _grid(half: np.ndarray) -> Coded | None:
    """Return halves (N,) as whole multiples of a power of two; None where they are not, or too few for a table."""
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
        ModelFileError: the stream is not one of ours or does not fit the shape.
    """
    count = math.prod(shape)
    reader = ByteReader(payload)
    if payload[:1] != bytes([SPARSE]):
        return _dense(reader, count).reshape(shape)
    reader.byte()
    mask = integers.decode(reader.take(reader.varint()), shape)
    if ((mask != 0) & (mask != 1)).any():
        raise ModelFileError("the mask of a sparse tensor holds other values than 0 and 1")
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
        raise ModelFileError("a float stream holds an exponent beyond nine bits")
    low = integers.unpack_bits(reader.rest(), MANTISSA, count)
    return ((high.astype(np.uint32) << np.uint32(MANTISSA)) | low.astype(np.uint32)).view(np.float32)


def _steps(reader: ByteReader, count: int) -> np.ndarray:
    shift = reader.byte()
    steps = integers.decode(reader.rest(), (count,))
    if shift > MOST_SHIFT or (np.abs(steps) >= GRID_STEPS).any():
        raise ModelFileError("a float stream holds steps that no half has")
    return np.ldexp(steps.astype(np.float32), shift + SMALLEST)
