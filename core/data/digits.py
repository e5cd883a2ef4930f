"""Scikit-learn's handwritten digits (UCI ML repository): 1,797 images of 8x8, embedded, no test part."""

from __future__ import annotations

import numpy as np

from .image_files import fitted
from .images import Images
from .source import Parts, shuffled
from .spec import Spec


def read(spec: Spec) -> Parts:
    """Return the digits, their 17 grey levels spread over 0 to 255."""
    from sklearn.datasets import load_digits  # noqa: PLC0415  a slow import that other sources do not need

    bunch = load_digits()
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    order = shuffled(len(pixels))
    images = Images(fitted(pixels[order], spec), bunch.target[order].astype(np.int64))
    return Parts(images, None, tuple("0123456789"))
