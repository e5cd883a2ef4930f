"""CIFAR-10 (Krizhevsky 2009): python batches, binary batches or class folders, as a folder or a tar."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

import numpy as np

from ..errors import DataError
from ..progress import track
from .archive import files
from .cache import cached
from .cifar_batches import CLASSES, is_batch, read_batch
from .image_files import decode, fitted, is_image
from .source import Parts
from .spec import Spec

BATCHES = 6


def read(spec: Spec) -> Parts:
    """Return the train and test images of whatever form the path holds.

    Raises:
        DataError: neither batches nor class folders, both, batches that are missing, other classes.
    """
    parts = cached(spec, "all", lambda: _decoded(spec))
    if parts.classes != CLASSES:
        raise DataError(f"cifar10: {spec.where} has the classes {', '.join(parts.classes[:12])}; use imagefolder:PATH")
    return parts


def _decoded(spec: Spec) -> Iterator[tuple[str, np.ndarray]]:
    batches: set[str] = set()
    images = 0
    for file in track(files(spec.where), "decoding"):
        if is_image(file.name):
            images += 1
            yield file.name, decode(file.read(), f"{file.name} in {spec.where}", spec)
        elif is_batch(file.name):
            batches.add(PurePosixPath(file.name).name)
            for name, pixels in read_batch(file.read(), file.name, str(spec.where)):
                yield name, fitted(pixels[None], spec)[0]
    if batches and (images or len(batches) != BATCHES):
        raise DataError(
            f"cifar10: {spec.where} has {', '.join(sorted(batches))} and {images} image files; expected the six "
            "batches of one form (data_batch_1 to 5 and test_batch), or class folders alone"
        )
