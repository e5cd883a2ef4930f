"""Augmentations of image batches: uint8 (N, C, H, W) in, the same out, all items at once, every draw from a generator."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, pad

Augmentation = Callable[[Tensor, torch.Generator], Tensor]


def none(pixels: Tensor, generator: torch.Generator) -> Tensor:  # noqa: ARG001  # an augmentation like the others
    """Return ``pixels``."""
    return pixels


def flip(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror every second image or so left to right."""
    chosen = torch.rand(len(pixels), generator=generator) < 0.5
    return torch.where(chosen.view(-1, 1, 1, 1), pixels.flip(3), pixels)


def crop(pixels: Tensor, generator: torch.Generator, margin: int = 4) -> Tensor:
    """Shift each image by up to ``margin`` pixels both ways; what comes in from outside is black."""
    count, _, height, width = pixels.shape
    top, left = torch.randint(2 * margin + 1, (2, count), generator=generator)
    rows = top[:, None] + torch.arange(height)  # (N, H)
    columns = left[:, None] + torch.arange(width)  # (N, W)
    padded = pad(pixels, (margin,) * 4).permute(0, 2, 3, 1)  # (N, H, W, C)
    items = torch.arange(count)[:, None, None]
    return padded[items, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def shift(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Shift by up to two pixels: for digits and other small drawings."""
    return crop(pixels, generator, margin=2)


def affine(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Rotate by up to 15 degrees, scale by 0.85 to 1.15, shear by up to 0.15, shift by up to two pixels.

    Each image by its own draws, about its middle, interpolated linearly; what comes in from outside is black. For
    handwriting and other drawings whose class such changes keep.
    """
    count, _, height, width = pixels.shape
    angle, scale, shear, down, right = (2 * torch.rand(5, count, generator=generator) - 1).unbind()
    cos, sin = torch.cos(math.radians(15) * angle), torch.sin(math.radians(15) * angle)
    size, slant = 1 + 0.15 * scale, 0.15 * shear
    # where the image's point at (x, y) comes from, in pixels: grid_sample counts from -1 to 1 along each axis
    ratio = height / width
    rows = [
        torch.stack([size * cos, size * (cos * slant - sin) * ratio, 4 * right / width], 1),
        torch.stack([size * sin / ratio, size * (sin * slant + cos), 4 * down / height], 1),
    ]
    grid = affine_grid(torch.stack(rows, 1), [count, 1, height, width], align_corners=False)
    moved = grid_sample(pixels.float(), grid, align_corners=False)
    return moved.round().to(torch.uint8)


def flip_crop(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror and shift, the usual augmentation of CIFAR."""
    return crop(flip(pixels, generator), generator)


AUGMENTATIONS: dict[str, Augmentation] = {
    "none": none,
    "flip": flip,
    "crop": crop,
    "shift": shift,
    "affine": affine,
    "flip-crop": flip_crop,
}
