"""Bit fields and variable-length integers of coded streams, least significant bit first."""

from __future__ import annotations

from ...core.errors import ModelFileError

MAX_VARINT = 63  # bits


class BitWriter:
    """Writer of bit fields, least significant bit first."""

    def __init__(self) -> None:
        self._value = 0
        self._count = 0

    def write(self, value: int, bits: int) -> None:
        """Append the low ``bits`` bits of ``value``."""
        self._value |= (value & ((1 << bits) - 1)) << self._count
        self._count += bits

    def write_gamma(self, value: int) -> None:
        """Append ``value`` >= 1 in Elias' gamma code: 2 floor(log2 value) + 1 bits."""
        size = value.bit_length()
        self.write(0, size - 1)
        self.write(1, 1)
        self.write(value, size - 1)

    def to_bytes(self) -> bytes:
        """Return the bits written, padded with zeros to whole bytes."""
        return self._value.to_bytes((self._count + 7) // 8, "little")


class ByteReader:
    """Reader of bytes, varints and bit fields.

    Raises:
        ModelFileError: the payload ends too early.
    """

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._at = 0
        self._bits = 0
        self._bit_count = 0

    @property
    def position(self) -> int:
        """Number of bytes read so far."""
        return self._at

    def take(self, count: int) -> bytes:
        """Return the next ``count`` bytes."""
        if count < 0 or self._at + count > len(self._payload):
            raise ModelFileError(f"a coded stream ends after {len(self._payload)} bytes, {count} more were expected")
        self._at += count
        return self._payload[self._at - count : self._at]

    def rest(self) -> bytes:
        """Return all remaining bytes."""
        return self.take(len(self._payload) - self._at)

    def byte(self) -> int:
        """Return the next byte as an integer."""
        return self.take(1)[0]

    def varint(self) -> int:
        """Return a number written by :func:`varint`."""
        value, shift = 0, 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if shift > 70 or value >= 1 << 64:  # ten bytes hold any number of 64 bits
                raise ModelFileError("a coded stream holds a number of more than 64 bits")
            if byte < 0x80:
                return value

    def signed(self) -> int:
        """Return a number written by :func:`signed`."""
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def bits(self, count: int) -> int:
        """Return the next ``count`` bits as an integer."""
        while self._bit_count < count:
            self._bits |= self.byte() << self._bit_count
            self._bit_count += 8
        value = self._bits & ((1 << count) - 1)
        self._bits >>= count
        self._bit_count -= count
        return value

    def gamma(self) -> int:
        """Return a number written by :meth:`BitWriter.write_gamma`."""
        zeros = 0
        while self.bits(1) == 0:
            zeros += 1
            if zeros > MAX_VARINT:
                raise ModelFileError("a coded stream holds a number of more than 63 bits")
        return (1 << zeros) | self.bits(zeros)

    def align(self) -> None:
        """Skip the remaining bits of the current byte."""
        self._bits = self._bit_count = 0


def varint(value: int) -> bytes:
    """Return ``value`` >= 0 in LEB128: groups of seven bits, lowest first; the high bit marks that more follow."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def signed(value: int) -> bytes:
    """Return a signed ``value`` as a zigzag varint: 0, -1, 1, -2, ... become 0, 1, 2, 3, ..."""
    return varint(value << 1 if value >= 0 else (-value << 1) - 1)
