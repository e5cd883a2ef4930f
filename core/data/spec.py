"""Data specs, the words people write: ``KIND``, ``KIND:PATH``, ``KIND:PATH?size=64&limit=1000``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import DataError, lookup

OPTIONS = {
    "size": "resize every image to size x size",
    "resize": "how images that are not square become so: stretch (as they are), crop (the centre) or pad (with black)",
    "limit": "at most this many items of each part, every class in its proportion",
    "gray": "1: one channel instead of three",
    "side": "of pairs: images or texts",
    "seed": "by which queries, and validation items, are drawn where the source or the protocol leaves that open (0)",
    "validation": "this many training items, or this share of them (0.1), held out for choosing settings",
}
RESIZES = {
    "stretch": "width and height apart",
    "crop": "the shorter side to the size, then the centre",
    "pad": "the longer side to the size, black around",
}
MOST_PIXELS = 8192  # of a side
FLAGS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


@dataclass(frozen=True)
class Spec:
    """A parsed data spec; a source from outside finds its own options in ``own``."""

    kind: str
    path: Path | None = None
    size: int | None = None
    resize: str = "stretch"
    limit: int | None = None
    gray: bool = False
    side: str | None = None
    seed: int = 0
    validation: int | float | None = None
    own: Mapping[str, str] = field(default_factory=dict)  # options of a source from outside

    @property
    def where(self) -> Path:
        """The path, which exists.

        Raises:
            DataError: it was not written, or there is nothing at it.
        """
        if self.path is None:
            raise DataError(f"{self.kind} needs a path: write {self.kind}:PATH")
        try:
            found = self.path.exists()
        except (OSError, ValueError) as fault:
            raise DataError(f"{self.kind}: cannot look at {str(self.path)!r} ({fault})") from fault
        if not found:
            raise DataError(f"{self.kind}: {self.path} does not exist")
        return self.path


def parse_spec(text: str, *, foreign: bool = False) -> Spec:
    """Return the parts of a data spec; the kind is not looked up here.

    Of a ``foreign`` source, ``MODULE:NAME?path=PATH``, the kind is ``MODULE:NAME`` and unknown options are its own.

    Raises:
        DataError: an unknown option or a value that is none.
    """
    body, tail = _halves(text)
    kind, _, path = (body, "", "") if foreign else body.partition(":")
    options: dict[str, Any] = {}
    own: dict[str, str] = {}
    for pair in filter(None, tail.split("&")):
        name, _, value = pair.partition("=")
        if foreign and name == "path":
            path = value
        elif foreign and name not in OPTIONS:
            own[name] = value
        else:
            options[name] = _value(name, value)
    return Spec(kind, Path(path).expanduser() if path else None, own=own, **options)


def foreign_name(text: str) -> str | None:
    """Return ``module:name`` when a data spec has that form, else None."""
    body, _ = _halves(text)
    module, _, name = body.partition(":")
    return body if name.isidentifier() and all(part.isidentifier() for part in module.split(".")) else None


def with_option(text: str, name: str, value: str) -> str:
    """Return a data spec with one more option.

    Raises:
        DataError: the spec has the option already, with another value.
    """
    _, tail = _halves(text)
    found = [pair.partition("=")[2] for pair in tail.split("&") if pair.partition("=")[0] == name]
    if found and found != [value]:
        raise DataError(f"{text} says {name}={found[0]}, and {value} was asked for; give one of them")
    return text if found else f"{text}{'&' if tail else '?'}{name}={value}"


def without_option(text: str, name: str) -> str:
    """Return a data spec without the option ``name``."""
    body, tail = _halves(text)
    rest = [pair for pair in tail.split("&") if pair and pair.partition("=")[0] != name]
    return "?".join(filter(None, (body, "&".join(rest))))


def _halves(text: str) -> tuple[str, str]:
    body, mark, tail = text.rpartition("?")
    return (body, tail) if mark else (text, "")


def _value(name: str, value: str) -> int | float | bool | str:
    lookup(OPTIONS, name, "option", DataError)
    if name == "gray":
        return _flag(value)
    if name == "resize":
        lookup(RESIZES, value, "way to resize", DataError)
        return value
    if name == "validation":
        return _share(value)
    return value if name == "side" else _count(name, value, least=int(name != "seed"))


def _flag(value: str) -> bool:
    if value.lower() not in FLAGS:
        raise DataError(f"gray={value}: write gray=1 or gray=0")
    return FLAGS[value.lower()]


def _share(value: str) -> int | float:
    if re.fullmatch(r"0?\.[0-9]+", value) and float(value) > 0:
        return float(value)
    if not re.fullmatch(r"[1-9][0-9]{0,9}", value):
        raise DataError(f"validation={value}: write a number of training items (5000), or a share below 1 (0.1)")
    return int(value)


def _count(name: str, value: str, least: int) -> int:
    most = MOST_PIXELS if name == "size" else 2**31
    if not (value.isascii() and value.isdigit() and int(value[:20]) >= least):
        raise DataError(f"{name}={value}: write a whole number from {least} on")
    if len(value) > 20 or int(value) > most:
        raise DataError(f"{name}={value}: write a whole number from {least} to {most:,}")
    return int(value)
