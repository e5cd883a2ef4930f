"""Quantities with units, parsed from and printed for people: bytes, milliseconds, shares."""

from __future__ import annotations

import re

from .errors import InputError

BYTES = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
MILLISECONDS = {"us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3}
SHARES = {"%": 0.01, "": 1.0}

_QUANTITY = re.compile(r"\s*([0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)\s*([^\s0-9]*)\s*")


def parse(text: str | float, units: dict[str, float] | dict[str, int], what: str) -> float:
    """Return the quantity ``text`` in the unit whose factor is 1.

    Raises:
        InputError: no number, or a unit that ``units`` does not have.
    """
    if isinstance(text, int | float) and not isinstance(text, bool):
        if "" in units:
            return float(text)
        raise InputError(f"{what}: {text} has no unit; write one of {', '.join(units)}")
    match = _QUANTITY.fullmatch(str(text))
    if match is None:
        raise InputError(f"{what}: cannot read {text!r}; write a number and one of {', '.join(filter(None, units))}")
    number, unit = match.groups()
    if unit not in units:
        known = ", ".join(name for name in units if name)
        raise InputError(f"{what}: unknown unit {unit!r} in {text!r}; write one of {known}")
    return float(number) * units[unit]


def parse_bytes(text: str, what: str = "size") -> int:
    """Return ``"900 kB"`` as a whole number of bytes."""
    return round(parse(text, BYTES, what))


def parse_ms(text: str, what: str = "time") -> float:
    """Return ``"12 ms"`` in milliseconds."""
    return parse(text, MILLISECONDS, what)


def parse_share(text: str | float, what: str = "share") -> float:
    """Return ``"1 %"`` or ``0.01`` as a fraction."""
    return parse(text, SHARES, what)


def format_bytes(size: float) -> str:
    """Return a size with a decimal unit: ``67.5 kB``; below 1 kB exact."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if abs(size) >= factor:
            return f"{size / factor:.4g} {unit}"
    return f"{size:.0f} B"


def format_ms(milliseconds: float) -> str:
    """Return a time in µs, ms or s, four digits."""
    if milliseconds < 1:
        return f"{milliseconds * 1e3:.4g} µs"
    if milliseconds < 1e3:
        return f"{milliseconds:.4g} ms"
    return f"{milliseconds / 1e3:.4g} s"
