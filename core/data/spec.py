"""Data specs, the words people write: ``KIND``, ``KIND:PATH``, ``KIND:PATH?size=64&limit=1000``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError, lookup

OPTIONS = {
    "size": "resize every image to size x size",
    "limit": "at most this many images of each part, every class in its proportion",
    "gray": "1: one channel instead of three",
    "seed": "by which queries are drawn where the source or the protocol leaves that open (0)",
}
FLAGS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


@dataclass(frozen=True)
class Spec:
    """A parsed data spec."""

    kind: str
    path: Path | None = None
    size: int | None = None
    limit: int | None = None
    gray: bool = False
    seed: int = 0

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


def parse_spec(text: str) -> Spec:
    """Return the parts of a data spec; the kind is not looked up here.

    Raises:
        DataError: an unknown option or a value that is none.
    """
    body, mark, tail = text.rpartition("?")
    if not mark:
        body, tail = text, ""
    kind, _, path = body.partition(":")
    options: dict[str, int | bool] = {}
    for pair in filter(None, tail.split("&")):
        name, _, value = pair.partition("=")
        lookup(OPTIONS, name, "option", DataError)
        options[name] = _flag(value) if name == "gray" else _count(name, value, least=int(name != "seed"))
    return Spec(kind, Path(path).expanduser() if path else None, **options)  # type: ignore[arg-type]


def _flag(value: str) -> bool:
    if value.lower() not in FLAGS:
        raise DataError(f"gray={value}: write gray=1 or gray=0")
    return FLAGS[value.lower()]


def _count(name: str, value: str, least: int) -> int:
    if not (value.isascii() and value.isdigit() and least <= int(value) <= 2**31):
        raise DataError(f"{name}={value}: write a whole number from {least} on")
    return int(value)
