"""Synthetic noise images with the 1/f amplitude spectrum of natural scenes (Field, JOSA A 1987).

For passes that need layer activations without a data set. White noise is misleading, since neighbouring pixels of real
images are correlated. Synthetic images were used in place of real ones by Baradad et al. 2021 (arXiv:2106.05963).
"""

from __future__ import annotations

import numpy as np

from ...core.errors import InputError
from ...core.inputs import ImageInput, Input


def noise(spec: Input, count: int, seed: int = 0) -> np.ndarray:
    """Return ``count`` images (n, C, H, W) uint8 with the mean and standard deviation that ``spec`` normalises by.

    The amplitude falls with 1/f, the mean of an image varies like its slowest wave, and channels are independent.
    Values below 0 or above 255 are clipped. Each image is a corner of one twice as wide, so that opposite sides do not
    match.
    """
    if not isinstance(spec, ImageInput):
        raise InputError(f"noise in the place of data is drawn for images alone; name {spec.kind} data")
    channels, height, width = spec.shape
    rows, columns = 2 * height, 2 * width
    frequency = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.fftfreq(columns)[None])
    frequency[0, 0] = 1 / max(rows, columns)
    amplitude = 1 / (frequency * np.sqrt(np.mean(frequency**-2.0)))  # of unit variance
    scale, middle = (255 * np.array(part)[:, None, None] for part in (spec.std, spec.mean))
    draw = np.random.default_rng(seed)
    result = np.empty((count, *spec.shape), dtype=np.uint8)
    for image in result:
        waves = np.fft.rfft2(draw.normal(size=(channels, rows, columns))) * amplitude[:, : width + 1]
        values = np.fft.irfft2(waves, s=(rows, columns))[:, :height, :width]
        image[:] = np.clip(np.rint(middle + scale * values), 0, 255)
    return result
