"""What a network takes: images, vectors or texts, and how raw items become the tensor of a batch."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
import torch

from .data.images import Images
from .data.items import Items
from .data.spec import RESIZES, parse_spec, with_option
from .data.split import Split
from .data.texts import Texts
from .data.vectors import Vectors
from .errors import InputError, lookup
from .settings import Json, check_fields
from .tokens import FIRST, TOKENISERS, build_vocabulary, token_ids

LARGEST = 1 << 20  # a side of an image, a number of features or tokens: what is larger is no description of a network


class Input(ABC):
    """The input of a network."""

    kind: ClassVar[str]
    shape: tuple[int, ...]  # of one item in a batch: (C, H, W), (size,) or (length,)

    @property
    def encoder_options(self) -> dict[str, int]:
        """What an encoder must be told beside the shape, as keyword arguments."""
        return {}

    @classmethod
    @abstractmethod
    def of(cls, split: Split) -> Self:
        """Return the input that fits a data set, from its training items alone."""

    @abstractmethod
    def tensor(self, items: np.ndarray) -> torch.Tensor:
        """Return raw ``items`` (N, ...), as a data set holds them, as the tensor (N, ...) the network takes."""

    def example(self, batch: int = 1) -> torch.Tensor:
        """Return zeros of the shape and type of a batch, on torch's default device."""
        return torch.zeros(batch, *self.shape)

    @abstractmethod
    def to_json(self) -> dict[str, Json]:
        """Return plain JSON values."""

    @classmethod
    @abstractmethod
    def from_json(cls, value: Mapping[str, Json]) -> Self:
        """Return the input that :meth:`to_json` wrote."""


@dataclass(frozen=True)
class ImageInput(Input):
    """Images (N, C, H, W) uint8, normalised per channel: ``(pixel / 255 - mean) / std``."""

    shape: tuple[int, ...]  # (C, H, W)
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: str = "stretch"  # how image files become square: stretch, crop (the centre) or pad

    kind: ClassVar[str] = "image"

    def __post_init__(self) -> None:
        check_fields("input", self)
        lookup(RESIZES, self.resize, "way to resize")

    @classmethod
    def of(cls, split: Split) -> ImageInput:
        """Return the input of a data set's images: their shape, mean and standard deviation of the training images.

        Raises:
            InputError: a data set of something else.
        """
        _check_kind(split, Images)
        return cls(split.train.shape, split.mean, split.std)

    def normalise(self, pixels: np.ndarray) -> torch.Tensor:
        """Return uint8 ``pixels`` (N, C, H, W) as the float32 tensor the network takes.

        Raises:
            InputError: another type or shape.
        """
        if pixels.dtype != np.uint8 or pixels.shape[1:] != self.shape:
            raise InputError(
                f"the network takes uint8 images of shape {self.shape}, found {pixels.dtype} of shape {pixels.shape[1:]}"
            )
        scale = torch.tensor([1.0 / (255.0 * s) for s in self.std], dtype=torch.float32).view(1, -1, 1, 1)
        shift = torch.tensor([-m / s for m, s in zip(self.mean, self.std, strict=True)], dtype=torch.float32)
        return torch.from_numpy(np.ascontiguousarray(pixels)).float() * scale + shift.view(1, -1, 1, 1)

    def tensor(self, items: np.ndarray) -> torch.Tensor:
        """Return :meth:`normalise` of the items."""
        return self.normalise(items)

    def to_json(self) -> dict[str, Json]:
        """Return plain lists; an input without ``kind`` is one of images."""
        value: dict[str, Json] = {"shape": list(self.shape), "mean": list(self.mean), "std": list(self.std)}
        return value if self.resize == "stretch" else value | {"resize": self.resize}

    @classmethod
    def from_json(cls, value: Mapping[str, Json]) -> ImageInput:
        """Return the input that :meth:`to_json` wrote.

        Raises:
            InputError: a missing or unknown entry, or one of another type.
        """
        value = dict(value)
        resize = value.pop("resize", "stretch")
        if set(value) != {"shape", "mean", "std"} or not all(isinstance(item, list) for item in value.values()):
            raise InputError(f"the input of the architecture needs shape, mean and std, found {str(value)[:80]}")
        if not value["shape"] or not all(_is_size(side) for side in value["shape"]):
            raise InputError(f"the input shape must be positive numbers, found {str(value['shape'])[:80]}")
        if not all(type(item) in (int, float) for item in (*value["mean"], *value["std"])):
            raise InputError("mean and std of the input must be numbers")
        return cls(tuple(value["shape"]), tuple(value["mean"]), tuple(value["std"]), resize)


@dataclass(frozen=True)
class VectorInput(Input):
    """Vectors (N, size) of numbers, such as bag-of-words counts or sensor readings: ``(value - mean) / std``.

    ``mean`` and ``std`` have one number per feature; both empty, the values stay as they are.

    Raises:
        InputError: sizes that do not agree, or a deviation that is not positive.
    """

    size: int
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    shape: tuple[int, ...] = field(init=False, repr=False)

    kind: ClassVar[str] = "vector"

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", (self.size,))
        check_fields("input", self)
        if self.size < 1 or len(self.mean) != len(self.std) or len(self.mean) not in (0, self.size):
            raise InputError(
                f"an input of {self.size} features takes as many means and deviations or none, "
                f"found {len(self.mean)} and {len(self.std)}"
            )
        if not all(map(math.isfinite, (*self.mean, *self.std))) or not all(value > 0 for value in self.std):
            raise InputError("mean and std of the input must be finite, std above 0")

    @classmethod
    def of(cls, split: Split) -> VectorInput:
        """Return the input of a data set's vectors: their size, mean and deviation of each feature of the training part.

        Raises:
            InputError: a data set of something else.
        """
        _check_kind(split, Vectors)
        return cls(split.train.shape[0], split.mean, split.std)

    def tensor(self, items: np.ndarray) -> torch.Tensor:
        """Return numbers (N, size) of any real type as float32, normalised.

        Raises:
            InputError: another type or shape.
        """
        if items.dtype.kind not in "biuf" or items.shape[1:] != self.shape:
            raise InputError(
                f"the network takes vectors of {self.size} numbers, found {items.dtype} of shape {items.shape[1:]}"
            )
        values = torch.from_numpy(np.ascontiguousarray(items, dtype=np.float32))
        return (values - torch.tensor(self.mean)) / torch.tensor(self.std) if self.mean else values

    def to_json(self) -> dict[str, Json]:
        """Return plain JSON values."""
        return {"kind": self.kind, "size": self.size, "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_json(cls, value: Mapping[str, Json]) -> VectorInput:
        """Return the input that :meth:`to_json` wrote.

        Raises:
            InputError: a missing or unknown entry, or one of another type.
        """
        _check_entries(value, {"size": int, "mean": list, "std": list})
        if not _is_size(value["size"]):
            raise InputError(f"the size of the input must be a positive number, found {str(value['size'])[:80]}")
        return cls(value["size"], tuple(value["mean"]), tuple(value["std"]))


@dataclass(frozen=True)
class TextInput(Input):
    """Texts as token ids (N, length) int64: 0 pads, 1 is any token that the vocabulary lacks, the others follow.

    Raises:
        InputError: an unknown tokeniser, a length below 1, a vocabulary that is empty or names a token twice.
    """

    tokeniser: str
    vocabulary: tuple[str, ...]
    length: int  # tokens; longer texts are cut
    shape: tuple[int, ...] = field(init=False, repr=False)

    kind: ClassVar[str] = "text"

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", (self.length,))
        check_fields("input", self)
        lookup(TOKENISERS, self.tokeniser, "tokeniser")
        if self.length < 1 or not self.vocabulary or len(self._ids) != len(self.vocabulary):
            raise InputError("a text input needs a length of 1 or more and a vocabulary of different tokens")

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {token: index for index, token in enumerate(self.vocabulary, FIRST)}

    @property
    def encoder_options(self) -> dict[str, int]:
        """``vocabulary``: how many different ids there are."""
        return {"vocabulary": len(self.vocabulary) + FIRST}

    @classmethod
    def of(cls, split: Split, *, tokeniser: str = "words", size: int = 10_000, length: int | None = None) -> TextInput:
        """Return the input of a data set's texts, with the ``size`` most frequent tokens of the training part.

        Without ``length`` it is that of all but the longest hundredth of the training texts.

        Raises:
            InputError: a data set of something else, or texts without words.
        """
        _check_kind(split, Texts)
        tokenise = lookup(TOKENISERS, tokeniser, "tokeniser")
        if length is None:
            counts = [len(tokenise(text)) for text in split.train.values]
            length = max(1, int(np.quantile(counts, 0.99, method="lower")))
        return cls(tokeniser, build_vocabulary(split.train.values, tokeniser, size), length)

    def tensor(self, items: np.ndarray) -> torch.Tensor:
        """Return strings (N,) as token ids (N, length) int64.

        Raises:
            InputError: what is not an array of strings.
        """
        if items.ndim != 1 or items.dtype.kind not in "OU":
            raise InputError(f"the network takes texts, found {items.dtype} of shape {items.shape}")
        return torch.from_numpy(token_ids(items, self.tokeniser, self._ids, self.length))

    def example(self, batch: int = 1) -> torch.Tensor:
        """Return zeros (batch, length) int64, on torch's default device."""
        return torch.zeros(batch, self.length, dtype=torch.int64)

    def to_json(self) -> dict[str, Json]:
        """Return plain JSON values."""
        return {
            "kind": self.kind,
            "tokeniser": self.tokeniser,
            "vocabulary": list(self.vocabulary),
            "length": self.length,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Json]) -> TextInput:
        """Return the input that :meth:`to_json` wrote.

        Raises:
            InputError: a missing or unknown entry, or one of another type.
        """
        _check_entries(value, {"tokeniser": str, "vocabulary": list, "length": int})
        if not _is_size(value["length"]) or len(value["vocabulary"]) > LARGEST:
            raise InputError(f"length and vocabulary of the input must be at most {LARGEST:,}")
        return cls(value["tokeniser"], tuple(value["vocabulary"]), value["length"])


INPUTS: dict[str, type[Input]] = {"image": ImageInput, "vector": VectorInput, "text": TextInput}
_OF_ITEMS: dict[type, type[Input]] = {Images: ImageInput, Vectors: VectorInput, Texts: TextInput}


def input_of(split: Split, *, resize: str = "stretch") -> Input:
    """Return the input that fits the items of a data set; ``resize`` is how images were brought to size.

    Raises:
        InputError: a data set whose items no single network takes, such as pairs.
    """
    kind = _OF_ITEMS.get(type(split.train))
    if kind is None:
        raise InputError(f"{split.name}: one network takes images, vectors or texts, not {split.train.noun}")
    found = kind.of(split)
    return replace(found, resize=resize) if isinstance(found, ImageInput) else found


def input_from_json(value: Mapping[str, Any]) -> Input:
    """Return the input that ``to_json`` of its class wrote; without ``kind`` it is one of images.

    Raises:
        InputError: an unknown kind, a missing or unknown entry, or one of another type.
    """
    kind = lookup(INPUTS, str(value.get("kind", ImageInput.kind)), "kind of input")
    return kind.from_json({name: entry for name, entry in value.items() if name != "kind"})


def resized_as(spec: str, taken: Input) -> str:
    """Return a data spec whose images are resized the way that a network's input says.

    Raises:
        InputError: the spec asks for another way.
    """
    if not isinstance(taken, ImageInput):
        return spec
    asked = parse_spec(spec, foreign=True)
    if asked.size is None or asked.resize == taken.resize:
        return spec
    if "resize=" in spec.rpartition("?")[2]:
        raise InputError(f"the network resizes images by {taken.resize}, and {spec} by {asked.resize}")
    return with_option(spec, "resize", taken.resize)


def _check_kind(split: Split, items: type[Items]) -> None:
    if not isinstance(split.train, items):
        raise InputError(f"{split.name} holds {split.train.noun}, not {items.noun}")


def _check_entries(value: Mapping[str, Json], kinds: Mapping[str, type]) -> None:
    if set(value) != set(kinds) or not all(type(value[name]) is kind for name, kind in kinds.items()):
        raise InputError(f"an input of this kind needs {', '.join(kinds)}, found {str(value)[:80]}")


def _is_size(value: Json) -> bool:
    return type(value) is int and 0 < value < LARGEST
