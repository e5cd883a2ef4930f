"""Inputs of ``hashpress encode``: loads files and data sets as raw items for a network."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...core.data import DATASETS, load_data, parse_spec
from ...core.data.archive import files
from ...core.data.image_files import decode, is_image
from ...core.data.spec import Spec, foreign_name
from ...core.data.texts import as_array
from ...core.errors import DataError
from ...core.inputs import ImageInput, Input, TextInput, resized_as
from ...core.progress import track

SHOWN = 3  # files that an error names


@dataclass(frozen=True, eq=False)
class NamedItems:
    """Raw items (N, ...) of the inputs, a name for each, and what is wrong with the files that were skipped."""

    items: np.ndarray
    names: tuple[str, ...]
    skipped: tuple[str, ...] = ()


def read_inputs(
    inputs: Sequence[str], taken: Input, *, trust_code: bool = False, skip_unreadable: bool = False
) -> NamedItems:
    """Return the raw items of ``inputs`` in the order given, as the input ``taken`` of a network takes them.

    Image files are resized the way that ``taken`` says; arrays and data sets must have the network's shape, or ask for it
    (``?size=32``). A text file holds one text a line. The items of an array or data set are named ``INPUT#0``, ...

    Raises:
        DataError: inputs that cannot be read (of image files all are named together, unless they are skipped), or of
            another kind or shape.
    """
    parts, names, problems = [], [], []
    wanted = list(_expanded(inputs, taken))
    for text in track(wanted, "reading"):
        try:
            items = _read(text, taken, trust_code=trust_code)
        except DataError as fault:
            if len(wanted) == 1 and not skip_unreadable:
                raise
            problems.append(str(fault))
            continue
        parts.append(items)
        file = isinstance(taken, ImageInput) and not _is_data(text) and not text.endswith(".npy")
        names += [text] if file else [f"{text}#{number}" for number in range(len(items))]
    if problems and not skip_unreadable:
        more = f"; and {len(problems) - SHOWN:,} more" if len(problems) > SHOWN else ""
        raise DataError(
            f"{len(problems):,} of {len(wanted):,} inputs cannot be read: {'; '.join(problems[:SHOWN])}{more} "
            "(--skip-unreadable encodes the others)"
        )
    if not parts:
        raise DataError(f"nothing to encode in {', '.join(inputs)[:200]}")
    return NamedItems(np.concatenate(parts), tuple(names), tuple(problems))


def _expanded(inputs: Sequence[str], taken: Input) -> Iterator[str]:
    """Yield the inputs, in place of folders the images below them by name, in place of ``-`` and ``@FILE`` the names there."""
    for text in inputs:
        if text == "-":
            yield from _lines(sys.stdin.buffer.read())
        elif text.startswith("@"):
            try:
                yield from _lines(Path(text[1:]).read_bytes())
            except OSError as fault:
                raise DataError(f"cannot read the list of names {text[1:]}: {fault.strerror}") from fault
        elif isinstance(taken, ImageInput) and not _is_data(text) and Path(text).is_dir():
            found = [str(Path(text) / file.name) for file in files(Path(text)) if is_image(file.name)]
            if not found:
                raise DataError(f"{text} holds no images; hidden files and files of other kinds are left out")
            yield from found
        else:
            yield text


def _lines(content: bytes) -> list[str]:
    """Return the names in a list, one a line; they need not be UTF-8."""
    return [os.fsdecode(line.removesuffix(b"\r")) for line in content.split(b"\n") if line.strip()]


def _is_data(text: str) -> bool:
    return foreign_name(text) is not None or parse_spec(text, foreign=True).kind.partition(":")[0] in DATASETS


def _read(text: str, taken: Input, *, trust_code: bool) -> np.ndarray:
    if not Path(text).is_file() and _is_data(text):
        split = load_data(resized_as(text, taken), trust_code=trust_code)
        items = np.concatenate([split.database.values, split.queries.values])
    elif text.endswith(".npy"):
        items = _array(Path(text), taken)
    elif isinstance(taken, TextInput):
        items = _texts(Path(text))
    elif isinstance(taken, ImageInput):
        items = _image(Path(text), taken)
    else:
        raise DataError(f"{text}: the network takes vectors; give an .npy array (N, {taken.shape[0]}) or a data spec")
    if isinstance(taken, ImageInput) and (items.dtype != np.uint8 or items.shape[1:] != taken.shape):
        raise DataError(
            f"{text}: expected uint8 images of shape {taken.shape}, found {items.dtype} of shape {items.shape[1:]}"
        )
    return items


def _array(path: Path, taken: Input) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as fault:
        reason = fault.strerror if isinstance(fault, OSError) and fault.strerror else str(fault)
        raise DataError(f"cannot read array {path}: {reason}") from fault
    return array[None] if array.ndim == len(taken.shape) and not isinstance(taken, TextInput) else array


def _texts(path: Path) -> np.ndarray:
    try:
        return as_array(path.read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as fault:
        raise DataError(f"cannot read texts from {path}: {fault} (a UTF-8 text file or a data spec)") from fault


def _image(path: Path, taken: ImageInput) -> np.ndarray:
    channels, height, width = taken.shape
    if height != width:
        raise DataError(
            f"{path}: image files need a network with a square input, found {height}x{width}; use an .npy array"
        )
    try:
        content = path.read_bytes()
    except OSError as fault:
        raise DataError(
            f"cannot read {path}: {fault.strerror} (expected an image file, .npy array or data set)"
        ) from fault
    return decode(content, str(path), Spec("image", path, size=height, resize=taken.resize, gray=channels == 1))[None]
