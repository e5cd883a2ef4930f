"""Data sets, read from one-line specs such as ``cifar10:PATH?limit=1000``, and divided by a named protocol."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace

from ..errors import DataError, lookup
from ..plugins import exists, foreign_code, import_name
from . import cifar10, digits, idx, imagefolder, pairs, texts, vectors
from .image_files import fitted
from .images import Images
from .items import Items
from .pairs import PairedSplit
from .protocols import divide
from .source import Parts, limited
from .spec import Spec, foreign_name, parse_spec
from .split import Split
from .texts import Texts
from .vectors import Vectors


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
    "vectors": Source("your vectors: .npz file with x (n, d) and labels y", vectors.read, one_size=False),
    "text": Source("your texts: .jsonl[.gz] file of lines with text and label", texts.read, one_size=False),
    "pairs": Source("images with texts: .npz file with images and texts; ?side=images or texts", pairs.read),
    "imagefolder": Source(
        "your images: folder or tar of class folders, with or without train/ test/", imagefolder.read, one_size=False
    ),
}


def load_data(spec: str, *, protocol: str | None = None, trust_code: bool = False) -> Split:
    """Return the data set ``KIND[:PATH][?size=64&limit=1000&gray=1&seed=0&validation=0.1]``, divided by ``protocol`` (default B).

    What is drawn at random, queries above all, is drawn by the ``seed`` of the spec: it is part of which data these are,
    and no other seed may let items that trained a network become its queries. With ``validation`` this many training
    items, or this share of them, are held out: :attr:`Split.validation`.

    ``MODULE:NAME?path=PATH`` is a function from :class:`Spec` to :class:`Parts`, or a :class:`Source`, of your own; it is
    imported, which imports code and needs ``trust_code``.

    Raises:
        DataError: an unknown kind, option or protocol, or files that cannot be read as asked.
    """
    source, parsed = _source(spec, trust_code=trust_code)
    if parsed.path is not None and not source.takes_path:
        raise DataError(f"{parsed.kind} is embedded and takes no path, got {parsed.path}")
    late = source.one_size and parsed.limit is not None  # then only the images that are kept are resized
    with nullcontext() if parsed.kind in DATASETS else foreign_code(parsed.kind, "data set", DataError):
        parts = source.read(replace(parsed, size=None) if late else parsed)
        if not isinstance(parts, Parts):
            raise DataError(f"data set {parsed.kind!r} must give hashpress.Parts, gave a {type(parts).__name__}")
    parts = _limited(parts, parsed.limit)
    if late:
        parts = replace(parts, train=_sized(parts.train, parsed), test=parts.test and _sized(parts.test, parsed))
    return divide(parts, spec, protocol or "B", parsed.seed, parsed.validation)


def load_pairs(spec: str, *, protocol: str | None = None) -> PairedSplit:
    """Return both sides of ``pairs:PATH``, divided alike; errors as :func:`load_data`."""
    mark = "&" if "?" in spec else "?"
    images, texts = (load_data(f"{spec}{mark}side={side}", protocol=protocol) for side in ("images", "texts"))
    return PairedSplit(images, texts)


def _source(spec: str, *, trust_code: bool) -> tuple[Source, Spec]:
    name = foreign_name(spec)
    if name is not None and name.partition(":")[0] not in DATASETS and exists(name):
        found = import_name(name, "data set", trust_code=trust_code, error=DataError)
        source = found if isinstance(found, Source) else Source("", found, one_size=False)
        return source, parse_spec(spec, foreign=True)
    parsed = parse_spec(spec)
    return lookup(DATASETS, parsed.kind, "data set", DataError), parsed


def _limited(parts: Parts, limit: int | None) -> Parts:
    if limit is None:
        return parts
    return replace(parts, train=limited(parts.train, limit), test=parts.test and limited(parts.test, limit))


def _sized(items: Items, spec: Spec) -> Items:
    return Images(fitted(items.pixels, spec), items.labels, items.label_type) if isinstance(items, Images) else items


__all__ = [
    "DATASETS",
    "Images",
    "Parts",
    "Source",
    "Spec",
    "Split",
    "Texts",
    "Vectors",
    "load_data",
    "load_pairs",
    "parse_spec",
]
