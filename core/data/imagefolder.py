"""A folder (or tar) of class folders with images of any format Pillow reads, with or without train/ and test/."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..progress import track
from .archive import File, files
from .cache import cached
from .class_folders import arrange
from .image_files import decode, is_image
from .source import Parts, stratified
from .spec import Spec


def read(spec: Spec) -> Parts:
    """Return the images, colour unless ``gray``; a ``val`` folder stands in for a missing ``test`` folder."""
    root = spec.where
    if not root.is_dir():
        return cached(spec, "all", lambda: _decoded(track(_images(spec), "decoding"), spec))
    images = list(_images(spec))
    chosen = "all"
    if spec.limit is not None:
        layout = arrange([image.name for image in images], str(root))
        keep = [layout.indices(part) for part in ("train", "test", "val")]
        index = np.concatenate([part[stratified(layout.label[part], spec.limit, 0)] for part in keep])
        images = [images[i] for i in index]
        chosen = f"limit {spec.limit}"
    return cached(spec, chosen, lambda: _decoded(track(images, "decoding"), spec))


def _images(spec: Spec) -> Iterator[File]:
    return (file for file in files(spec.where) if is_image(file.name))


def _decoded(images: Iterator[File], spec: Spec) -> Iterator[tuple[str, np.ndarray]]:
    for file in images:
        yield file.name, decode(file.read(), f"{file.name} in {spec.where}", spec)
