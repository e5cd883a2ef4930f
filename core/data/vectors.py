"""Labelled vectors: bag-of-words counts, sensor readings, features of another network."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

from ..errors import DataError
from .items import Items
from .labels import read_labels
from .source import Parts, shuffled
from .spec import Spec

BROKEN = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, eq=False)
class Vectors(Items):
    """Numbers (n, d) of any real type, all finite, with their labels; errors as :class:`Items`."""

    noun: ClassVar[str] = "vectors"

    def check_values(self) -> None:
        """Raise DataError unless the values are finite numbers (n, d)."""
        if self.values.ndim != 2 or self.values.dtype.kind not in "biuf":
            raise DataError(f"vectors are numbers (n, d), found {self.values.dtype} {self.values.shape}")
        for block in self.batches():
            if not np.isfinite(block).all():
                raise DataError("vectors must be finite, found NaN or infinity")

    @cached_property
    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of each feature, float64 (d,); the latter 1 where all values are equal."""
        mean = sum(block.sum(0, dtype=np.float64) for block in self.batches()) / len(self)
        square = sum(np.square(block - mean).sum(0) for block in self.batches()) / len(self)
        std = np.sqrt(square)
        return mean, np.where(std > 1e-6 * np.maximum(1, np.abs(mean)), std, 1.0)

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of each feature."""
        return tuple(map(float, self.moments[0]))

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of each feature; 1 where all values are equal."""
        return tuple(map(float, self.moments[1]))


def read(spec: Spec) -> Parts:
    """Return the vectors of an .npz file: ``x`` (n, d), labels ``y``; where there are, ``x_test``, ``y_test``, ``classes``.

    Raises:
        DataError: a file that is damaged, arrays that are missing or of other shapes.
    """
    arrays = read_arrays(spec.where, ("x", "y"))
    test = "x_test" in arrays
    if test != ("y_test" in arrays):
        raise DataError(f"{spec.where} needs both of x_test and y_test, or neither")
    labels = [arrays["y"], arrays["y_test"]] if test else [arrays["y"]]
    if len({part.shape[1:] for part in labels}) > 1:
        raise DataError(f"{spec.where}: y and y_test differ in shape, {labels[0].shape} and {labels[1].shape}")
    known, classes = read_labels(np.concatenate(labels), arrays.get("classes"), str(spec.where))
    count = len(arrays["y"])
    parts = [_part(arrays["x"], known.values[:count])]
    if test:
        parts.append(_part(arrays["x_test"], known.values[count:]))
    return Parts(parts[0], parts[1] if test else None, classes)


def _part(values: np.ndarray, labels: np.ndarray) -> Vectors:
    return Vectors(values, labels).take(shuffled(len(values)))


def read_arrays(path: Path, needed: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Return the arrays of an .npz file, of which those ``needed`` must be there.

    Raises:
        DataError: no such file, one that is damaged or holds pickles, or lacks an array.
    """
    try:
        with path.open("rb") as handle:
            file = np.load(handle, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise DataError(f"{path} is one array; give an .npz file with {', '.join(needed)}")
            arrays = {name: file[name] for name in file.files}
    except BROKEN as fault:
        raise DataError(f"{path} is no .npz file of plain arrays ({fault})") from fault
    missing = [name for name in needed if name not in arrays]
    if missing:
        raise DataError(f"{path} has no array {' or '.join(missing)} (it has: {', '.join(arrays)})")
    return arrays
