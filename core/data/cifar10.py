"""CIFAR-10 (Krizhevsky 2009): python batches, binary batches or class folders, as a folder or a tar."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..progress import track
from .cache import cached
from .parts import Parts
from .pixels import decode, is_image
from .spec import Spec
from .tree import files

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def read(spec: Spec) -> Parts:
    """Return the 50,000 and 10,000 images of whatever form the path holds."""
    return cached(spec, "all", lambda: _decoded(spec))


def _decoded(spec: Spec) -> Iterator[tuple[str, np.ndarray]]:
    for file in track(files(spec.where), "decoding"):
        if is_image(file.name):
            yield file.name, decode(file.read(), f"{file.name} in {spec.where}", spec)
