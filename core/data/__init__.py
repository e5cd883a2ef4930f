"""Data sets, read from one-line specs such as ``cifar10:PATH?limit=1000``, and divided by a named protocol."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ..errors import DataError, lookup
from . import cifar10, digits, idx, imagefolder
from .image_files import fitted
from .images import Images, Split
from .protocols import divide
from .source import Parts, stratified
from .spec import Spec, parse_spec


@dataclass(frozen=True)
class Source:
    """One kind of data set: what people read about it, and the function that reads it."""

    about: str
    read: Callable[[Spec], Parts]
    takes_path: bool = True
    one_size: bool = True  # of all its images as they are stored


DATASETS = {
    "digits": Source("scikit-learn's 1,797 handwritten digits of 8x8, embedded", digits.read, takes_path=False),
    "mnist": Source("MNIST: folder of the four IDX files, plain or gzip", idx.read_digits),
    "fashion-mnist": Source("Fashion-MNIST: folder of the four IDX files, plain or gzip", idx.read_fashion),
    "cifar10": Source("CIFAR-10: python or binary batches or class folders, as folder or tar", cifar10.read),
    "imagefolder": Source(
        "your images: folder or tar of class folders, with or without train/ test/", imagefolder.read, one_size=False
    ),
}


def load_data(spec: str, *, protocol: str | None = None) -> Split:
    """Return the data set ``KIND[:PATH][?size=64&limit=1000&gray=1&seed=0]``, divided by ``protocol`` (default B).

    What is drawn at random, queries above all, is drawn by the ``seed`` of the spec: it is part of which data these are,
    and no other seed may let images that trained a network become its queries.

    Raises:
        DataError: an unknown kind, option or protocol, or files that cannot be read as asked.
    """
    parsed = parse_spec(spec)
    source = lookup(DATASETS, parsed.kind, "data set", DataError)
    if parsed.path is not None and not source.takes_path:
        raise DataError(f"{parsed.kind} is embedded and takes no path, got {parsed.path}")
    late = source.one_size and parsed.limit is not None  # then only the images that are kept are resized
    parts = _limited(source.read(replace(parsed, size=None) if late else parsed), parsed.limit)
    if late:
        parts = replace(parts, train=_sized(parts.train, parsed), test=parts.test and _sized(parts.test, parsed))
    return divide(parts, spec, protocol or "B", parsed.seed)


def _limited(parts: Parts, limit: int | None) -> Parts:
    if limit is None:
        return parts
    return replace(parts, train=_few(parts.train, limit), test=parts.test and _few(parts.test, limit))


def _few(images: Images, limit: int) -> Images:
    return images if limit >= len(images) else images.take(stratified(images.labels, limit, seed=0))


def _sized(images: Images, spec: Spec) -> Images:
    return Images(fitted(images.pixels, spec), images.typed_labels)


__all__ = ["DATASETS", "Images", "Parts", "Source", "Spec", "Split", "load_data", "parse_spec"]
