"""The inputs of ``hashpress encode``: image files, .npy arrays and data specs become pixels for one network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..core.data import DATASETS, load_data, parse_spec
from ..core.data.image_files import decode
from ..core.data.spec import Spec
from ..core.errors import DataError


def read_inputs(inputs: Sequence[str], shape: Sequence[int]) -> np.ndarray:
    """Return uint8 pixels (N, C, H, W) of ``inputs`` in the order given, in the ``shape`` (C, H, W) the network takes.

    Image files are resized; arrays and data sets must have the shape, or ask for it (``?size=32``).

    Raises:
        DataError: an input that cannot be read, or of another shape.
    """
    return np.concatenate([_read(text, tuple(shape)) for text in inputs])


def _read(text: str, shape: tuple[int, ...]) -> np.ndarray:
    kind = parse_spec(text).kind
    if kind in DATASETS:
        split = load_data(text)
        pixels = np.concatenate([split.database.pixels, split.queries.pixels])
    elif text.endswith(".npy"):
        pixels = _array(Path(text))
    else:
        pixels = _image(Path(text), shape)
    if pixels.dtype != np.uint8 or pixels.shape[1:] != shape:
        raise DataError(
            f"{text}: the network takes uint8 images of shape {shape}, found {pixels.dtype} of shape {pixels.shape[1:]}"
        )
    return pixels


def _array(path: Path) -> np.ndarray:
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as fault:
        reason = fault.strerror if isinstance(fault, OSError) and fault.strerror else str(fault)
        raise DataError(f"cannot read array {path}: {reason}") from fault
    return found[None] if found.ndim == 3 else found


def _image(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    channels, height, width = shape
    if height != width:
        raise DataError(f"{path}: image files need a square network input, this one is {height}x{width}; give an .npy")
    try:
        content = path.read_bytes()
    except OSError as fault:
        raise DataError(f"cannot read {path}: {fault.strerror} (an image file, .npy array or data spec)") from fault
    return decode(content, str(path), Spec("image", path, size=height, gray=channels == 1))[None]
