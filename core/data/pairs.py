"""Pairs of an image and a text: two item sets in one order that share their labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import DataError, lookup
from .image_files import fitted
from .images import Images
from .items import Items
from .labels import PairLabels, read_labels
from .source import Parts, shuffled
from .spec import Spec
from .split import Split
from .texts import Texts, as_array
from .vectors import read_arrays

SIDES = {"images": "the images", "texts": "the texts"}


@dataclass(frozen=True, eq=False)
class PairedSplit:
    """The same pairs divided the same way, once as images and once as texts.

    Raises:
        DataError: the sides do not have the same labels in the same order.
    """

    images: Split
    texts: Split

    def __post_init__(self) -> None:
        for name in ("train", "queries", "database"):
            first, second = (getattr(side, name).labels for side in (self.images, self.texts))
            if not np.array_equal(first, second):
                raise DataError(f"{self.images.name}: the {name} of images and of texts are not the same pairs")

    @property
    def validation(self) -> PairedSplit:
        """Both sides' held-out pairs as queries."""
        return PairedSplit(self.images.validation, self.texts.validation)

    @property
    def image_to_text(self) -> Split:
        """Queries are images, the database holds texts."""
        return _across(self.images, self.texts)

    @property
    def text_to_image(self) -> Split:
        """Queries are texts, the database holds images."""
        return _across(self.texts, self.images)


def _across(asking: Split, searched: Split) -> Split:
    return Split(asking.name, asking.protocol, asking.train, asking.queries, searched.database, asking.classes)


def read(spec: Spec) -> Parts:
    """Return one side of the pairs of an .npz file, ``?side=images`` or ``?side=texts``.

    The file holds ``images`` uint8 (n, H, W) or (n, H, W, 3), strings ``texts`` or ``tags`` (n,) and, where there are,
    ``labels`` with ``classes``; without labels an image and its own text are relevant to each other, nothing else.

    Raises:
        DataError: a file that is damaged, arrays that are missing or of other shapes, a side that is not named.
    """
    if spec.side is None:
        raise DataError(f"{spec.kind}: a pair has two sides; add ?side=images or ?side=texts")
    lookup(SIDES, spec.side, "side", DataError)
    arrays = read_arrays(spec.where, ("images",))
    texts = next((arrays[name] for name in ("texts", "tags") if name in arrays), None)
    if texts is None:
        raise DataError(f"{spec.where} has no array texts or tags (it has: {', '.join(arrays)})")
    count = len(arrays["images"])
    if "labels" in arrays:
        labels, classes = read_labels(arrays["labels"], arrays.get("classes"), str(spec.where))
    else:
        labels, classes = PairLabels(np.arange(count)), ()
    if not count == len(texts) == len(labels):
        raise DataError(f"{spec.where} has {count} images, {len(texts)} texts and {len(labels)} labels")
    order = shuffled(count)
    chosen = labels.values[order]
    items: Items
    if spec.side == "images":
        items = Images(fitted(_channels_first(arrays["images"], str(spec.where))[order], spec), chosen, type(labels))
    else:
        if texts.ndim != 1 or texts.dtype.kind != "U":
            raise DataError(f"{spec.where}: texts are strings (n,), found {texts.dtype} {texts.shape}")
        items = Texts(as_array(texts[order].tolist()), chosen, type(labels))
    return Parts(items, None, classes)


def _channels_first(images: np.ndarray, where: str) -> np.ndarray:
    if images.dtype == np.uint8 and images.ndim == 3:
        return images[:, None]
    if images.dtype == np.uint8 and images.ndim == 4 and images.shape[3] in (1, 3):
        return np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    raise DataError(f"{where}: images are uint8 (n, H, W) or (n, H, W, 3), found {images.dtype} {images.shape}")
