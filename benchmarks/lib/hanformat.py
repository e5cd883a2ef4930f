"""The file format of Deep Compression (Han et al. 2016, arXiv:1510.00149, sections 2 to 4), with its decoder.

A layer is its non-zero weights in order. Each is an entry: the number of its value in the codebook and the zeros before
it. A gap that does not fit its bits is a filler: an entry for a zero, with the largest gap, which is why the codebook
holds a zero. Both streams have a fixed width or a Huffman code of their own. Codebook and biases are float32.
"""

from __future__ import annotations

import heapq
import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

HEADER = struct.Struct("<BBHI")  # gap bits, whether coded by Huffman, codebook entries, entries of the streams
LENGTH_BITS = 5  # of a code length in a Huffman table
LONGEST = (1 << LENGTH_BITS) - 1


class Layer(NamedTuple):
    """A layer in the paper's format: its bytes, and where its bits go."""

    content: bytes
    entries: int  # weights and fillers
    fillers: int
    weight_bits: int
    gap_bits: int
    table_bits: int


def encode(indices: np.ndarray, codebook: np.ndarray, bias: np.ndarray, gap_bits: int, *, huffman: bool) -> Layer:
    """Return a layer of ``indices`` into ``codebook`` (K,), entry 0 of which is zero, and ``bias`` (O,)."""
    symbols, gaps = entries(indices.reshape(-1), gap_bits)
    parts, spent = [], []
    tables = 0
    for stream, size in ((symbols, len(codebook)), (gaps, 1 << gap_bits)):
        if huffman:
            lengths = code_lengths(np.bincount(stream, minlength=size))
            table = pack(lengths, np.full(size, LENGTH_BITS))
            codes = canonical(lengths)
            body = pack(codes[stream], lengths[stream])
            tables += 8 * len(table)
            spent.append(int(lengths[stream].sum()))
            parts += [table, body]
        else:
            width = max(1, (size - 1).bit_length())
            spent.append(width * len(stream))
            parts.append(pack(stream, np.full(len(stream), width)))
    head = HEADER.pack(gap_bits, huffman, len(codebook), len(symbols))
    numbers = codebook.astype("<f4").tobytes() + bias.astype("<f4").tobytes()
    fillers = len(symbols) - int(np.count_nonzero(indices))
    return Layer(b"".join([head, numbers, *parts]), len(symbols), fillers, spent[0], spent[1], tables)


def decode(content: bytes, shape: Sequence[int], outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the weight of ``shape`` and the bias (``outputs``,) in float32."""
    gap_bits, huffman, size, count = HEADER.unpack_from(content)
    place = HEADER.size
    numbers = np.frombuffer(content, "<f4", size + outputs, place)
    place += numbers.nbytes
    streams = []
    for alphabet in (size, 1 << gap_bits):
        if huffman:
            taken = -(-alphabet * LENGTH_BITS // 8)
            lengths = unpack(content[place:], alphabet, LENGTH_BITS)
            stream, used = read(content[place + taken :], lengths, count)
            place += taken + used
        else:
            width = max(1, (alphabet - 1).bit_length())
            stream = unpack(content[place:], count, width)
            place += -(-count * width // 8)
        streams.append(stream)
    if place != len(content):
        raise ValueError(f"a layer of {place} bytes in {len(content)}")
    symbols, gaps = streams
    weight = np.zeros(int(np.prod(shape)), dtype=np.float32)
    weight[np.cumsum(gaps + 1) - 1] = numbers[:size][symbols]
    return weight.reshape(shape), numbers[size:]


def entries(indices: np.ndarray, gap_bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the symbols and gaps of all entries, fillers (symbol 0) among them; zeros at the end are not stored."""
    places = np.flatnonzero(indices)
    gaps = np.diff(places, prepend=-1) - 1
    span = 1 << gap_bits  # a filler stands for so many zeros: its gap and itself
    fillers = gaps // span
    ends = np.cumsum(fillers + 1) - 1  # where each weight's own entry comes
    symbols = np.zeros(len(places) + int(fillers.sum()), dtype=np.int64)
    steps = np.full(len(symbols), span - 1, dtype=np.int64)
    symbols[ends], steps[ends] = indices[places], gaps % span
    return symbols, steps


def code_lengths(counts: np.ndarray) -> np.ndarray:
    """Return the length of each symbol's Huffman code; 0 for one that never comes, 1 for one that is alone."""
    heap: list[tuple[int, int, list[int]]] = [(int(c), s, [s]) for s, c in enumerate(counts) if c]
    lengths = np.zeros(len(counts), dtype=np.int64)
    if len(heap) == 1:
        lengths[heap[0][1]] = 1
    heapq.heapify(heap)
    while len(heap) > 1:
        few, first, some = heapq.heappop(heap)
        more, second, others = heapq.heappop(heap)
        lengths[some + others] += 1
        heapq.heappush(heap, (few + more, min(first, second), some + others))
    if lengths.max(initial=0) > LONGEST:
        raise ValueError(f"a Huffman code of {lengths.max()} bits does not fit the table")
    return lengths


def canonical(lengths: np.ndarray) -> np.ndarray:
    """Return the codes: shorter ones first, equal lengths in the order of their symbols."""
    codes, code, before = np.zeros(len(lengths), dtype=np.int64), 0, 0
    for symbol in np.lexsort((np.arange(len(lengths)), lengths)):
        length = int(lengths[symbol])
        if length:
            code <<= length - before
            codes[symbol], before = code, length
            code += 1
    return codes


def pack(values: np.ndarray, widths: np.ndarray) -> bytes:
    """Return each value in its width of bits, the highest first, filled up to whole bytes."""
    text = "".join(f"{value:0{width}b}" for value, width in zip(values.tolist(), widths.tolist(), strict=True) if width)
    size = -(-len(text) // 8)
    return int(text.ljust(8 * size, "0") or "0", 2).to_bytes(size, "big")


def unpack(content: bytes, count: int, width: int) -> np.ndarray:
    """Return ``count`` values of ``width`` bits."""
    bits = np.unpackbits(np.frombuffer(content, np.uint8, -(-count * width // 8)))[: count * width]
    return bits.reshape(count, width).astype(np.int64) @ (1 << np.arange(width)[::-1])


def read(content: bytes, lengths: np.ndarray, count: int) -> tuple[np.ndarray, int]:
    """Return ``count`` symbols of a Huffman stream and the bytes they take."""
    codes = canonical(lengths)
    table = {(int(lengths[s]), int(codes[s])): int(s) for s in np.flatnonzero(lengths)}
    bits = np.unpackbits(np.frombuffer(content, np.uint8)).tolist()
    symbols, place = [], 0
    for _ in range(count):
        length = code = 0
        while (length, code) not in table:
            length, code = length + 1, code << 1 | bits[place]
            place += 1
        symbols.append(table[length, code])
    return np.array(symbols, dtype=np.int64), -(-place // 8)
