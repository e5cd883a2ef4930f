"""IDX files of MNIST and Fashion-MNIST, plain or gzip (LeCun et al.): a magic, the dimensions, then the bytes."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from ..errors import DataError
from .image_files import fitted
from .images import Images
from .source import Parts, shuffled
from .spec import Spec

UINT8 = 8  # the type code of the only element type these data sets use
LARGEST = 2**31  # bytes that a header may ask for


def read_digits(spec: Spec) -> Parts:
    """Return MNIST from the folder of its four files."""
    return _read(spec, tuple("0123456789"))


def read_fashion(spec: Spec) -> Parts:
    """Return Fashion-MNIST from the folder of its four files."""
    names = "T-shirt/top Trouser Pullover Dress Coat Sandal Shirt Sneaker Bag Ankle-boot"
    return _read(spec, tuple(names.split()))


def _read(spec: Spec, classes: tuple[str, ...]) -> Parts:
    folder = spec.where
    if not folder.is_dir():
        raise DataError(f"{spec.kind}: {folder} is a file; give the folder that holds the four IDX files")
    train, test = (_part(folder, prefix, spec, len(classes)) for prefix in ("train", "t10k"))
    return Parts(train, test, classes)


def _part(folder: Path, prefix: str, spec: Spec, classes: int) -> Images:
    pixels = read_idx(_find(folder, f"{prefix}-images", "idx3-ubyte"), 3)
    labels = read_idx(_find(folder, f"{prefix}-labels", "idx1-ubyte"), 1).astype(np.int64)
    if len(pixels) != len(labels) or not len(labels):
        raise DataError(f"{spec.kind}: {folder} has {len(pixels)} {prefix} images and {len(labels)} labels")
    if labels.max() >= classes:
        raise DataError(f"{spec.kind}: {folder} has the {prefix} label {labels.max()}, expected 0 to {classes - 1}")
    order = shuffled(len(pixels))
    return Images(fitted(pixels[order][:, None], spec), labels[order])


def _find(folder: Path, stem: str, kind: str) -> Path:
    for name in (f"{stem}-{kind}", f"{stem}.{kind}"):  # both spellings are in circulation
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    raise DataError(f"{folder} has no {stem}-{kind} or {stem}-{kind}.gz")


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Return the bytes of an IDX file as an array of that many dimensions.

    Raises:
        DataError: another magic, another length than the header says, or a damaged gzip stream.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as handle:
            head = handle.read(4 + 4 * dimensions)
            if len(head) < 4 + 4 * dimensions or head[:4] != bytes((0, 0, UINT8, dimensions)):
                raise DataError(f"{path} is not an IDX file of bytes with {dimensions} dimensions")
            shape = tuple(int(size) for size in np.frombuffer(head, ">u4", offset=4))
            size = math.prod(shape)
            if size > LARGEST:
                raise DataError(f"{path} announces {size:,} bytes; the most that is read is {LARGEST:,}")
            body = handle.read(size + 1)
    except (OSError, EOFError, zlib.error) as fault:
        raise DataError(f"cannot read {path}: {fault}") from fault
    if len(body) != size:
        found = "more" if len(body) > size else f"{len(body):,}"
        raise DataError(f"{path} should hold {size:,} bytes after its header, found {found}")
    return np.frombuffer(body, np.uint8).reshape(shape)
