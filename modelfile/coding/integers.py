"""Lossless coding of integer tensors with the entropy model that gives the fewest bytes.

The first byte of a payload is the number of the model: CONSTANT, PACKED, ORDER0 or ADAPTIVE. Zero is a symbol like any
other; no positions are stored.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ...core.errors import ModelFileError
from . import adaptive, alphabet, ans
from .bits import ByteReader, signed

CONSTANT, PACKED, ORDER0, ADAPTIVE = range(4)
LARGEST = 1 << 61  # magnitude of a coded number
BLOCK = 1 << 16  # values packed at once; a multiple of eight, so that every width ends in whole bytes


class Coded(NamedTuple):
    """A payload and the number of its bytes that describe the entropy model instead of symbols."""

    payload: bytes
    table_bytes: int


def codable(values: np.ndarray) -> bool:
    """Return whether the streams hold these integers: numbers and their differences below 2^62."""
    return not values.size or -LARGEST <= int(values.min()) <= int(values.max()) <= LARGEST


def encode(values: np.ndarray) -> Coded:
    """Return the shortest stream of an integer tensor."""
    flat = values.reshape(-1)
    if flat.size == 0 or (flat == flat[0]).all():
        payload = bytes([CONSTANT]) + signed(int(flat[0]) if flat.size else 0)
        return Coded(payload, len(payload))
    candidates = []
    table = alphabet.encode(flat)
    if table is not None:
        encoder = ans.AnsEncoder()
        encoder.push(table.ranks, table.model)
        candidates.append(Coded(bytes([ORDER0]) + table.head + encoder.to_bytes(), 1 + len(table.head)))
    table = None  # frees its ranks, which are as large as the tensor
    contextual = adaptive.encode(values)
    if contextual is not None:
        candidates.append(Coded(bytes([ADAPTIVE]) + contextual[0], 1 + contextual[1]))
    width = (int(flat.max()) - int(flat.min())).bit_length()
    if not candidates or width * flat.size / 8 < min(len(coded.payload) for coded in candidates):
        candidates.append(packed(flat))
    return min(candidates, key=lambda coded: len(coded.payload))


def decode(payload: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """Return the int64 tensor of ``shape`` that was encoded.

    Raises:
        ModelFileError: the stream is damaged or does not match the shape.
    """
    reader = ByteReader(payload)
    kind = reader.byte()
    if kind >= len(DECODERS):
        raise ModelFileError(f"a coded stream has the unknown model {kind}")
    return DECODERS[kind](reader, shape).reshape(shape)


def packed(flat: np.ndarray) -> Coded:
    """Return the values minus their minimum, packed with the fewest bits per value."""
    low = int(flat.min())
    width = (int(flat.max()) - low).bit_length()
    head = bytes([PACKED]) + signed(low) + bytes([width])
    blocks = (flat[begin : begin + BLOCK].astype(np.int64) - low for begin in range(0, len(flat), BLOCK))
    return Coded(b"".join([head, *(pack_bits(block.astype(np.uint64), width) for block in blocks)]), len(head))


def pack_bits(values: np.ndarray, width: int) -> bytes:
    """Return ``values`` (N,) uint64 packed with ``width`` bits each, least significant bit first."""
    places = np.arange(width, dtype=np.uint64)
    out = []
    for begin in range(0, len(values), BLOCK):
        bits = (values[begin : begin + BLOCK, None] >> places) & np.uint64(1)
        out.append(np.packbits(bits.astype(np.uint8).reshape(-1), bitorder="little").tobytes())
    return b"".join(out)


def unpack_bits(payload: bytes, width: int, count: int) -> np.ndarray:
    """Return the ``count`` uint64 values packed by :func:`pack_bits`."""
    if not 1 <= width <= 64 or len(payload) != (width * count + 7) // 8:
        raise ModelFileError(f"{len(payload)} bytes do not hold {count} values of {width} bits")
    data = np.frombuffer(payload, dtype=np.uint8)
    values = np.zeros(count, dtype=np.uint64)
    for begin in range(0, count, BLOCK):
        end = min(begin + BLOCK, count)
        block = data[begin // 8 * width : (end * width + 7) // 8]
        bits = np.unpackbits(block, count=width * (end - begin), bitorder="little").reshape(-1, width)
        for place in range(width):
            values[begin:end] |= bits[:, place].astype(np.uint64) << np.uint64(place)
    return values


def _constant(reader: ByteReader, shape: tuple[int, ...]) -> np.ndarray:
    value = reader.signed()
    if reader.rest():
        raise ModelFileError("a coded stream has trailing bytes")
    return np.full(math.prod(shape), value, dtype=np.int64)


def _packed(reader: ByteReader, shape: tuple[int, ...]) -> np.ndarray:
    low, width = reader.signed(), reader.byte()
    return unpack_bits(reader.rest(), width, math.prod(shape)).astype(np.int64) + low


def _order0(reader: ByteReader, shape: tuple[int, ...]) -> np.ndarray:
    symbols, model = alphabet.decode(reader)
    decoder = ans.Decoder(reader.rest())
    ranks = decoder.pop(model, math.prod(shape))
    decoder.finish()
    return symbols[ranks]


DECODERS = (_constant, _packed, _order0, adaptive.decode)
