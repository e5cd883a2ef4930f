"""Inputs of ``hashpress encode``: loads image files, .npy arrays and data sets as pixels for a network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..core.data import DATASETS, load_data, parse_spec
from ..core.data.image_files import decode
from ..core.data.spec import Spec
from ..core.errors import DataError


def read_inputs(inputs: Sequence[str], shape: Sequence[int]) -> np.ndarray:
    """Return the uint8 pixels (N, C, H, W) of ``inputs`` in the order given; ``shape`` (C, H, W) is the network's input.

    Image files are resized; arrays and data sets must have the shape (``?size=32`` resizes a data set).

    Raises:
        DataError: an input cannot be read or has another shape.
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
            f"{text}: expected uint8 images of shape {shape}, found {pixels.dtype} of shape {pixels.shape[1:]}"
        )
    return pixels


def _array(path: Path) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as fault:
        reason = fault.strerror if isinstance(fault, OSError) and fault.strerror else str(fault)
        raise DataError(f"cannot read array {path}: {reason}") from fault
    return array[None] if array.ndim == 3 else array


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
