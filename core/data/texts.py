"""Labelled texts."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..errors import DataError
from .items import Items
from .labels import ClassLabels, MultiLabels, read_labels
from .source import Parts, shuffled
from .spec import Spec

BROKEN = (OSError, EOFError, zlib.error, UnicodeDecodeError)
TRAIN, TEST = ("train", "database"), ("test", "query")  # names of the parts in a folder


@dataclass(frozen=True, eq=False)
class Texts(Items):
    """Strings, an object array (n,), with their labels; a network's own input turns them into token ids.

    Raises:
        DataError: what is not a string; other errors as :class:`Items`.
    """

    noun: ClassVar[str] = "texts"

    def check_values(self) -> None:
        """Raise DataError unless the values are strings."""
        if self.values.ndim != 1 or not all(isinstance(text, str) for text in self.values):
            raise DataError(f"texts are an array (n,) of strings, found {self.values.dtype} {self.values.shape}")

    def _bytes(self, block: np.ndarray) -> bytes:
        texts = [text.encode("utf-8", "surrogatepass") for text in block]
        return b"".join(len(text).to_bytes(8, "little") + text for text in texts)


Line = tuple[str, str | list[str]]  # text, label or labels


def read(spec: Spec) -> Parts:
    """Return the texts of a file of lines ``{"text": ..., "label": ...}``, plain or gzip, or of a folder of two such.

    A label is a string, or a list of strings where a text has several. In a folder the training part is called ``train``
    or ``database``, the test part ``test`` or ``query``, ``.jsonl`` or ``.jsonl.gz``.

    Raises:
        DataError: a file that is missing or damaged, a line that is not of this form.
    """
    where = spec.where
    files = [_find(where, TRAIN), _find(where, TEST)] if where.is_dir() else [where]
    parts = [list(_lines(path)) for path in files]
    labels, classes = _labels([label for part in parts for _, label in part], str(where))
    count = len(parts[0])
    train = _part(parts[0], labels.values[:count])
    test = _part(parts[1], labels.values[count:]) if len(parts) > 1 else None
    return Parts(train, test, classes)


def as_array(texts: list[str]) -> np.ndarray:
    """Return strings as an object array (n,)."""
    found = np.empty(len(texts), dtype=object)
    found[:] = texts
    return found


def _part(lines: list[Line], labels: np.ndarray) -> Texts:
    return Texts(as_array([text for text, _ in lines]), labels).take(shuffled(len(lines)))


def _labels(found: list[str | list[str]], where: str) -> tuple[ClassLabels, tuple[str, ...]]:
    if not any(isinstance(label, list) for label in found):
        return read_labels(np.array(found, dtype=str), None, where)
    rows = [label if isinstance(label, list) else [label] for label in found]
    classes = sorted({name for row in rows for name in row})
    column = {name: index for index, name in enumerate(classes)}
    values = np.zeros((len(rows), len(classes)), dtype=bool)
    for place, row in enumerate(rows):
        values[place, [column[name] for name in row]] = True
    return MultiLabels(values), tuple(classes)


def _find(folder: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        for path in (folder / f"{name}.jsonl", folder / f"{name}.jsonl.gz"):
            if path.is_file():
                return path
    raise DataError(f"{folder} has no {' or '.join(f'{name}.jsonl[.gz]' for name in names)}")


def _lines(path: Path) -> Iterator[Line]:
    try:
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rt", encoding="utf-8") as handle:
            for number, line in enumerate(handle, start=1):
                if line.strip():
                    yield _line(line, f"{path}, line {number}")
    except BROKEN as fault:
        raise DataError(f"cannot read texts from {path}: {fault}") from fault


def _line(line: str, where: str) -> Line:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as fault:
        raise DataError(f"{where}: no JSON ({fault})") from fault
    text, label = (value.get(name) if isinstance(value, dict) else None for name in ("text", "label"))
    names: list[Any] = label if isinstance(label, list) else [label]
    if not isinstance(text, str) or not all(isinstance(name, str) for name in names):
        raise DataError(f'{where}: write {{"text": "...", "label": "..."}}, a label may be a list; found {line[:60]!r}')
    return text, names if isinstance(label, list) else names[0]
