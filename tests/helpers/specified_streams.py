"""The coded streams of docs/model-file.md, sections 4 and 5, read by that text alone: plain Python, nothing of hashpress."""

from __future__ import annotations

import math
from bisect import bisect_right
from itertools import accumulate

import numpy as np

MANTISSA = (1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 13, 14, 15, 16)
SQUASH = (
    64, 76, 90, 107, 127, 151, 179, 212, 252, 299, 354, 420, 496, 587, 693, 818,
    964, 1134, 1331, 1558, 1820, 2120, 2461, 2846, 3277, 3755, 4280, 4850, 5461, 6109, 6786, 7484,
    8192, 8900, 9598, 10275, 10923, 11534, 12104, 12629, 13107, 13538, 13923, 14264, 14564, 14826, 15053, 15250,
    15420, 15566, 15691, 15797, 15888, 15964, 16030, 16085, 16132, 16172, 16205, 16233, 16257, 16277, 16294, 16308,
)  # fmt: skip
SLOTS = 1 << 14


class RefusedError(Exception):
    """The file is damaged or hostile."""


def require(holds: bool, what: str) -> None:
    if not holds:
        raise RefusedError(what)


class Bytes:
    """What is left of a stream."""

    def __init__(self, content: bytes) -> None:
        self.content, self.at = content, 0

    def take(self, count: int) -> bytes:
        require(self.at + count <= len(self.content), "a stream ends too early")
        self.at += count
        return self.content[self.at - count : self.at]

    def rest(self) -> bytes:
        return self.take(len(self.content) - self.at)

    def u8(self) -> int:
        return self.take(1)[0]

    def varint(self) -> int:
        value = 0
        for group in range(10):
            byte = self.u8()
            value |= (byte & 127) << 7 * group
            require(value < 1 << 64, "a number of more than 64 bits")
            if byte < 128:
                return value
        raise RefusedError("a number of more than ten bytes")

    def signed(self) -> int:
        value = self.varint()
        return -(value >> 1) - 1 if value & 1 else value >> 1


class Bits:
    """Bit fields, the lowest first."""

    def __init__(self, source: Bytes) -> None:
        self.source, self.held, self.count = source, 0, 0

    def take(self, count: int) -> int:
        while self.count < count:
            self.held |= self.source.u8() << self.count
            self.count += 8
        value = self.held & ((1 << count) - 1)
        self.held >>= count
        self.count -= count
        return value


def wrapped(value: int) -> int:
    """Two's complement in 64 bits."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def packed(content: bytes, width: int, count: int) -> list[int]:
    require(1 <= width <= 64 and len(content) == (width * count + 7) // 8, "packed values of another length")
    whole, mask, at = [], (1 << width) - 1, 0
    for begin in range(0, count, 64):  # 64 values are whole bytes, and small numbers are fast
        size = min(64, count - begin)
        group = int.from_bytes(content[at : at + 8 * width], "little")
        whole += [group >> place * width & mask for place in range(size)]
        at += 8 * width
    return whole


def frequencies(bits: Bits, symbols: int) -> list[int]:
    mantissa = bits.take(3)
    weights = []
    for _ in range(symbols):
        exponent = bits.take(4)
        weights.append(((1 << mantissa) + bits.take(mantissa)) << exponent)
    return normalised(weights)


def normalised(weights: list[int]) -> list[int]:
    spare, total = SLOTS - len(weights), sum(weights)
    shares = [1 + weight * spare // total for weight in weights]
    shares[shares.index(max(shares))] += SLOTS - sum(shares)
    return shares


class Alphabet:
    """Symbols, and where their slots begin."""

    def __init__(self, source: Bytes) -> None:
        size = source.varint()
        first = source.signed()
        size, gappy = size >> 1, size & 1
        require(1 <= size <= 4096, "an alphabet of another size")
        self.symbols = [first]
        for _ in range(size - 1):
            self.symbols.append(self.symbols[-1] + 1 + (source.varint() if gappy else 0))
        require(self.symbols[0] >= -(1 << 62) and self.symbols[-1] < 1 << 62, "symbols of more than 62 bits")
        self.shares = frequencies(Bits(source), size) if size > 1 else [SLOTS]
        self.starts = [0, *accumulate(self.shares)][:-1]


class Coder:
    """A state of 64 bits and words of 32, taken from the end."""

    def __init__(self, content: bytes) -> None:
        require(len(content) % 4 == 0, "a stream that is not made of words")
        self.words = [int.from_bytes(content[at : at + 4], "little") for at in range(0, len(content), 4)]
        require(not self.words or self.words[-1] != 0, "the last word is zero")
        self.state = self.words.pop() if self.words else 0
        if self.words:
            self.state = self.state << 32 | self.words.pop()

    def _pop(self, begin: int, count: int) -> None:
        self.state = (self.state >> 24) * count + (self.state & 0xFFFFFF) - begin
        if self.state < 1 << 32 and self.words:
            self.state = self.state << 32 | self.words.pop()

    def symbols(self, alphabet: Alphabet, count: int) -> list[int]:
        if len(alphabet.symbols) == 1:
            return alphabet.symbols * count
        found = []
        for _ in range(count):
            place = bisect_right(alphabet.starts, (self.state & 0xFFFFFF) >> 10) - 1
            self._pop(alphabet.starts[place] << 10, alphabet.shares[place] << 10)
            found.append(alphabet.symbols[place])
        return found

    def flag(self, chance: int) -> int:
        zeros = (1 << 24) - (chance << 10)
        one = (self.state & 0xFFFFFF) >= zeros
        self._pop(zeros if one else 0, chance << 10 if one else zeros)
        return int(one)

    def close(self) -> None:
        require(self.state == 0, "a stream holds more than was asked of it")


def log16(value: int) -> int:
    exponent = value.bit_length() - 1
    return 16 * exponent + MANTISSA[value << 4 >> exponent & 15]


def odds(numerator: int, denominator: int) -> int:
    return LOGIT[min(max(numerator // denominator, 16), 65520)]


LOGIT = [0] * 16 + [log16(share) - log16(65536 - share) for share in range(16, 65521)]  # as in the text, once for all


def flags(source: Bytes, shape: tuple[int, ...]) -> tuple[list[int], Alphabet, Coder]:
    """The flags of the adaptive mode, and what its values are popped from."""
    require(len(shape) >= 2 and 0 not in shape, "the adaptive mode without rows and columns")
    rows, columns, kernel = shape[0], math.prod(shape[1:]), math.prod(shape[2:])
    density = source.varint()
    bias, *weights = [source.signed() for _ in range(4)]
    width = source.varint()
    per_row = max(min(4096 // rows, columns // 64), 1)
    require(rows <= 4096 and 16 <= density <= 65520 and width == -(-shape[1] // per_row) * kernel, "settings")
    require(max(map(abs, weights)) <= 1 << 10 and abs(bias) <= 1 << 20, "weights")
    alphabet = Alphabet(source)
    coder = Coder(source.rest())
    above, found = [0] * columns, []
    for row in range(rows):
        line: list[int] = []
        terms = _terms(above, kernel, density, row)
        ones = seen = 0
        for column in range(columns):
            if column % width == 0:
                seen, ones = column, sum(line)
                third = odds(ones * 65536 + 16 * density, seen + 16) * weights[2]
            score = bias + weights[0] * terms[column][0] + weights[1] * terms[column][1] + third
            line.append(coder.flag(SQUASH[min(max((score + 64 >> 7) + 32, 0), 63)]))
        above = [total + one for total, one in zip(above, line, strict=True)]
        found += line
    return found, alphabet, coder


def _terms(above: list[int], kernel: int, density: int, row: int) -> list[tuple[int, int]]:
    terms = []
    for column, total in enumerate(above):
        if kernel > 1:
            begin, span = column // kernel * kernel, kernel
            near = sum(above[begin : begin + kernel])
        else:
            near, span = sum(above[max(column - 2, 0) : column + 3]), 5
        first = odds(total * 65536 + 4 * density, row + 4)
        terms.append((first, odds(near * 65536 + 4 * span * density, span * (row + 4))))
    return terms


def integers(content: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """Section 4: int64 values of ``shape``."""
    source, count = Bytes(content), math.prod(shape)
    mode = source.u8()
    if mode == 0:
        values = [source.signed()] * count
        require(not source.rest(), "bytes are left")
    elif mode == 1:
        low, width = source.signed(), source.u8()
        values = [wrapped(low + value) for value in packed(source.rest(), width, count)]
    elif mode == 2:
        alphabet = Alphabet(source)
        coder = Coder(source.rest())
        values = coder.symbols(alphabet, count)
        coder.close()
    elif mode == 3:
        found, alphabet, coder = flags(source, shape)
        others = iter(coder.symbols(alphabet, sum(found)))
        coder.close()
        values = [next(others) if one else 0 for one in found]
    else:
        raise RefusedError(f"mode {mode}")
    return np.array(values, dtype=np.int64).reshape(shape)


def widened(half: int) -> int:
    """The bits of a binary32 of the same value as the binary16 with these bits."""
    sign, exponent, fraction = half >> 15 << 31, half >> 10 & 31, half & 1023
    if exponent == 31:
        return sign | 0xFF << 23 | fraction << 13
    if exponent:
        return sign | exponent + 112 << 23 | fraction << 13
    return sign | int(np.float32(fraction * 2.0**-24).view(np.uint32))


def floats(content: bytes, shape: tuple[int, ...], *, nested: bool = False) -> np.ndarray:
    """Section 5: float32 values of ``shape``."""
    source, count = Bytes(content), math.prod(shape)
    form = source.u8()
    if form == 0:
        bits = [int.from_bytes(source.take(4), "little") for _ in range(count)]
    elif form == 1:
        bits = [widened(int.from_bytes(source.take(2), "little")) for _ in range(count)]
    elif form == 2 and not nested:
        mask = integers(source.take(source.varint()), shape).reshape(-1).tolist()
        require(set(mask) <= {0, 1}, "a mask of other values")
        others = iter(floats(source.rest(), (sum(mask),), nested=True).view(np.uint32).tolist())
        bits = [next(others) if one else 0 for one in mask]
    elif form == 3:
        high = integers(source.take(source.varint()), (count,)).tolist()
        require(all(0 <= value < 512 for value in high), "a plane of more than nine bits")
        bits = [top << 23 | low for top, low in zip(high, packed(source.rest(), 23, count), strict=True)]
    elif form == 4:
        shift = source.u8()
        steps = integers(source.rest(), (count,)).tolist()
        require(shift <= 40 and all(-2048 < step < 2048 for step in steps), "steps that no half has")
        return np.array([step * 2.0 ** (shift - 24) for step in steps], dtype=np.float32).reshape(shape)
    else:
        raise RefusedError(f"form {form}")
    require(not source.rest(), "bytes are left")
    return np.array(bits, dtype=np.uint32).view(np.float32).reshape(shape)
