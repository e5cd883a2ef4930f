"""Quantities with units, parsed from and printed for people: bytes, milliseconds, shares.

Upper and lower case of a unit mean the same. Bytes with a decimal prefix are powers of 1000 (kB, KB and kb are 1000 B),
those with a binary prefix powers of 1024 (KiB, kib); a ``b`` is always a byte, never a bit. ``%`` is a fraction of 100;
``point`` is a percentage point, a difference of 0.01 between two shares.
"""

from __future__ import annotations

import math
import re
from difflib import get_close_matches

from .errors import InputError

BYTES = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
MILLISECONDS = {"us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3}
SHARES = {"%": 0.01, "": 1.0}
POINTS = ("point", "points", "pp", "%-points", "% points", "percentage point", "percentage points")

_QUANTITY = re.compile(r"\s*([0-9]+\.?[0-9]*(?:[eE][-+]?[0-9]+)?|\.[0-9]+(?:[eE][-+]?[0-9]+)?)\s*([^\s0-9]*)\s*")


def parse(text: str | float, units: dict[str, float] | dict[str, int], what: str) -> float:
    """Return the quantity ``text`` in the unit whose factor is 1.

    Raises:
        InputError: no number, or a unit that ``units`` does not have.
    """
    known = ", ".join(filter(None, units))
    if isinstance(text, int | float) and not isinstance(text, bool):
        if not math.isfinite(text):
            raise InputError(f"{what}: {text} is no quantity; write a number and one of {known}")
        if text < 0:
            raise InputError(f"{what}: {text} is negative; a limit is zero or more")
        if "" in units:
            return float(text)
        raise InputError(f"{what}: {text} has no unit; write one of {known}")
    match = _QUANTITY.fullmatch(str(text))
    if match is None:
        if _QUANTITY.fullmatch(str(text).strip().removeprefix("-")):
            raise InputError(f"{what}: {text!r} is negative; a limit is zero or more")
        raise InputError(f"{what}: cannot read {text!r}; write a number and one of {known}")
    number, unit = match.groups()
    if not unit and "" not in units:
        raise InputError(f"{what}: {text!r} has no unit; write one of {known}")
    factor = _spelled(unit, units)
    if factor is None:
        near = get_close_matches(unit.casefold(), [name.casefold() for name in units if name], n=1)
        hint = next((f"; did you mean {name!r}?" for name in units if near and name.casefold() == near[0]), "")
        raise InputError(f"{what}: unknown unit {unit!r} in {text!r}{hint}; write one of {known}")
    value = float(number) * factor
    if not math.isfinite(value):
        raise InputError(f"{what}: {text!r} is too large")
    return value


def _spelled(unit: str, units: dict[str, float] | dict[str, int]) -> float | None:
    """Return the factor of a unit in any case; None if there is none, or if two units differ in their case only."""
    if unit in units:
        return units[unit]
    alike = [factor for name, factor in units.items() if name.casefold() == unit.casefold()]
    return alike[0] if len(alike) == 1 else None


def parse_bytes(text: str, what: str = "size") -> int:
    """Return ``"900 kB"`` as a whole number of bytes."""
    return round(parse(text, BYTES, what))


def parse_ms(text: str, what: str = "time") -> float:
    """Return ``"12 ms"`` in milliseconds."""
    return parse(text, MILLISECONDS, what)


def parse_share(text: str | float, what: str = "share") -> float:
    """Return ``"1 %"`` or ``0.01`` as a fraction."""
    return parse(text, SHARES, what)


def parse_points(text: str, what: str = "difference") -> float | None:
    """Return ``"1 point"`` or ``"2.5 points"`` as a difference of shares, 0.01 or 0.025; None if it has another unit."""
    words = text.strip().casefold()
    ending = next((name for name in sorted(POINTS, key=len, reverse=True) if words.endswith(name)), None)
    return None if ending is None else parse(words.removesuffix(ending), {"": 0.01}, what)


def format_bytes(size: float) -> str:
    """Return a size with a decimal unit: ``67.5 kB``; below 1 kB exact."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if abs(size) >= factor:
            return f"{size / factor:.4g} {unit}"
    return f"{size:.0f} B"


def format_points(difference: float) -> str:
    """Return a difference of two shares in percentage points: ``1.5 points``."""
    text = f"{100 * difference:.{4 if abs(difference) >= 0.01 else 3}g}"
    return f"{text} point{'' if text in ('1', '-1') else 's'}"


def format_ms(milliseconds: float) -> str:
    """Return a time in µs, ms or s, four digits."""
    if milliseconds < 1:
        return f"{milliseconds * 1e3:.4g} µs"
    if milliseconds < 1e3:
        return f"{milliseconds:.4g} ms"
    return f"{milliseconds / 1e3:.4g} s"
