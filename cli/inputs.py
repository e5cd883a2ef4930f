"""Inputs of ``hashpress encode``: loads files and data sets as raw items for a network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..core.data import DATASETS, load_data, parse_spec
from ..core.data.image_files import decode
from ..core.data.spec import Spec, foreign_name
from ..core.data.texts import as_array
from ..core.errors import DataError
from ..core.inputs import ImageInput, Input, TextInput


def read_inputs(inputs: Sequence[str], taken: Input, *, trust_code: bool = False) -> np.ndarray:
    """Return the raw items of ``inputs`` in the order given, as the input ``taken`` of a network takes them.

    Image files are resized; arrays and data sets must have the network's shape, or ask for it (``?size=32``). A text
    file holds one text a line.

    Raises:
        DataError: an input that cannot be read, or of another kind or shape.
    """
    return np.concatenate([_read(text, taken, trust_code=trust_code) for text in inputs])


def _read(text: str, taken: Input, *, trust_code: bool) -> np.ndarray:
    if foreign_name(text) is not None or parse_spec(text, foreign=True).kind.partition(":")[0] in DATASETS:
        split = load_data(text, trust_code=trust_code)
        items = np.concatenate([split.database.values, split.queries.values])
    elif text.endswith(".npy"):
        items = _array(Path(text), taken)
    elif isinstance(taken, TextInput):
        items = _texts(Path(text))
    elif isinstance(taken, ImageInput):
        items = _image(Path(text), taken.shape)
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


def _image(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    channels, height, width = shape
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
    return decode(content, str(path), Spec("image", path, size=height, gray=channels == 1))[None]
