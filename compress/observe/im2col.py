"""Patches of the padded input of a convolution (im2col).

Windows are a view, so a few positions of many take only their own memory; only padding copies the images.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

PADDED = 8  # images padded at once where all of them are read


def output_size(images: Tensor, layer: nn.Conv2d) -> tuple[int, int]:
    """Return height and width of the output of ``layer`` for ``images`` (N, C, H, W)."""
    left, right, top, bottom = _padding(layer)
    height, width = images.shape[2] + top + bottom, images.shape[3] + left + right
    rows, columns = (
        (size - dilation * (kernel - 1) - 1) // stride + 1
        for size, kernel, stride, dilation in zip(
            (height, width), layer.kernel_size, layer.stride, layer.dilation, strict=True
        )
    )
    return rows, columns


def windows(images: Tensor, layer: nn.Conv2d) -> Tensor:
    """Return a view (N, rows, columns, C, kH, kW) of ``images`` (N, C, H, W): one window for every output position.

    C may be the number of channels of one group of ``layer``. Its kernel size, stride, dilation and zero padding are
    used.
    """
    padding = _padding(layer)
    padded = (pad(images, padding) if any(padding) else images).contiguous()
    steps = padded.stride()
    return padded.as_strided(
        (len(images), *output_size(images, layer), images.shape[1], *layer.kernel_size),
        (steps[0], steps[2] * layer.stride[0], steps[3] * layer.stride[1], steps[1],
         steps[2] * layer.dilation[0], steps[3] * layer.dilation[1]),
    )  # fmt: skip


def patches(images: Tensor, layer: nn.Conv2d, places: Tensor | None = None) -> Tensor:
    """Return the patches of ``images`` (N, C, H, W) as rows (N, L, C kH kW), like :func:`torch.nn.functional.unfold`.

    With ``places``, indices below L = rows * columns of the output, only those positions: (P,) for all images or (N,
    P).
    """
    rows, columns = output_size(images, layer)
    places = torch.arange(rows * columns) if places is None else places
    places = places.expand(len(images), places.shape[-1])
    taken = images.new_empty(*places.shape, images.shape[1] * layer.kernel_size[0] * layer.kernel_size[1])
    for some, at, result in zip(images.split(PADDED), places.split(PADDED), taken.split(PADDED), strict=True):
        seen = windows(some, layer)[torch.arange(len(some))[:, None], at // columns, at % columns]
        result.copy_(seen.flatten(2))
    return taken


def _padding(layer: nn.Conv2d) -> tuple[int, int, int, int]:
    """Return the zero padding on the left, right, top and bottom."""
    if layer.padding == "same":
        spans = [dilation * (size - 1) for dilation, size in zip(layer.dilation, layer.kernel_size, strict=True)]
        (top, bottom), (left, right) = ((span // 2, span - span // 2) for span in spans)
        return left, right, top, bottom
    rows, columns = (0, 0) if isinstance(layer.padding, str) else layer.padding
    return columns, columns, rows, rows
