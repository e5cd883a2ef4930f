"""Bytes of image files, and arrays, into uint8 pixels (C, H, W) of the size and colour that a spec asks for."""

from __future__ import annotations

import io
import warnings
from functools import cache
from pathlib import PurePosixPath

import numpy as np
from PIL import Image, ImageOps

from ..errors import DataError
from .spec import Spec

LARGEST_IMAGE = 50_000_000  # pixels; a decompression bomb is a small file with a huge picture
REFUSED = frozenset({"EPS", "WMF"})  # drawn by outside programs


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(sorted(set(Image.OPEN) - REFUSED))


@cache
def _suffixes() -> frozenset[str]:
    known = set(_formats())
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in known)


def is_image(name: str) -> bool:
    """Whether a file of this name is one of Pillow's formats and not hidden."""
    path = PurePosixPath(name)
    return path.suffix.lower() in _suffixes() and not any(part.startswith(".") for part in path.parts)


def decode(data: bytes, name: str, spec: Spec) -> np.ndarray:
    """Return the image in ``data`` as uint8 (3, H, W), or (1, H, W) in gray.

    Upright as its EXIF says; transparent pixels lie on white; of an animation the first frame.

    Raises:
        DataError: it cannot be decoded, or is larger than ``LARGEST_IMAGE``.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata; and Pillow's bomb limit is laxer than the check below
            image = Image.open(io.BytesIO(data), formats=_formats())
            _check_extent(image, name)
            image = ImageOps.exif_transpose(image)
            return _array(_sized(_coloured(image, name, spec.gray), spec.size, spec.resize))
    except DataError:
        raise
    except Exception as fault:  # decoders raise whatever their format's authors chose
        raise DataError(f"{name} cannot be read as an image ({fault})") from fault


def _check_extent(image: Image.Image, name: str) -> None:
    if image.width * image.height > LARGEST_IMAGE:
        raise DataError(f"{name} is {image.width}x{image.height}; the most is {LARGEST_IMAGE:,} pixels")


def _coloured(image: Image.Image, name: str, gray: bool) -> Image.Image:
    mode = "L" if gray else "RGB"
    if image.mode in {"I", "F"}:
        raise DataError(
            f"{name} has pixels of mode {image.mode}, which have no fixed range; store it with 8 or 16 bits"
        )
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == mode else image.convert(mode)


def _sized(image: Image.Image, size: int | None, resize: str) -> Image.Image:
    if size is None or image.size == (size, size):
        return image
    if resize == "crop":
        return ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    if resize == "pad":
        return ImageOps.pad(image, (size, size), Image.Resampling.BILINEAR)
    return image.resize((size, size), Image.Resampling.BILINEAR)


def _array(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def fitted(pixels: np.ndarray, spec: Spec) -> np.ndarray:
    """Return ``pixels`` (N, 1 or 3, H, W) with the size and colour of ``spec``."""
    gray = spec.gray and pixels.shape[1] == 3
    if not gray and (spec.size is None or pixels.shape[2:] == (spec.size, spec.size)):
        return pixels
    pictures = []
    for picture in pixels:
        image = Image.fromarray(picture[0] if len(picture) == 1 else np.ascontiguousarray(picture.transpose(1, 2, 0)))
        pictures.append(_array(_sized(image.convert("L") if gray else image, spec.size, spec.resize)))
    return np.stack(pictures)
