"""XXH32 as its specification describes it."""

from __future__ import annotations


def plain(data: bytes, seed: int) -> int:
    """XXH32 as its specification describes it, byte strings below 16 bytes, in Python's own integers."""
    mask, at = 2**32 - 1, 0

    def rotated(value: int, bits: int) -> int:
        return ((value << bits) | (value >> (32 - bits))) & mask

    value = (seed + 0x165667B1 + len(data)) & mask
    while at + 4 <= len(data):
        value = (value + int.from_bytes(data[at : at + 4], "little") * 0xC2B2AE3D) & mask
        value = rotated(value, 17) * 0x27D4EB2F & mask
        at += 4
    for byte in data[at:]:
        value = rotated((value + byte * 0x165667B1) & mask, 11) * 0x9E3779B1 & mask
    value = (value ^ value >> 15) * 0x85EBCA77 & mask
    value = (value ^ value >> 13) * 0xC2B2AE3D & mask
    return value ^ value >> 16
