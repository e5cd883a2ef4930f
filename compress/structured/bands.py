"""Numbers of values per frequency band of a hashed convolution (FreshNets, Chen et al. 2016, arXiv:1506.04449)."""

from __future__ import annotations

import numpy as np

from ...modelfile.decode.weights import band_of_column

STEEP = 40.0  # logarithm of a density up to which bisecting the level itself finds all its digits
STEEPEST = 1e6  # alpha and beta from which on the order of frequencies alone counts; levels have digits to spare


def band_sizes(shape: tuple[int, ...], values: int, alpha: float, beta: float) -> tuple[int, ...]:
    """Return how many of ``values`` each frequency u + v of a weight (O, I, kH, kW) gets: at least one, at most its size.

    The density of a band is proportional to the beta density at its relative frequency.
    """
    room = np.bincount(band_of_column(shape)) * shape[0]
    places = (np.arange(len(room)) + 1) / (len(room) + 1)
    values = min(max(values, len(room)), int(room.sum()))
    flat = min(1.0, STEEPEST / max(alpha, beta))
    logs = (alpha * flat - flat) * np.log(places) + (beta * flat - flat) * np.log(1 - places)
    steep = np.abs(logs).max() > STEEP
    if steep:  # such a density is zero in floats where it is small, so its level is sought as a logarithm
        density = np.log(room) + logs
        low, high = -density.max(), np.log(room.max()) - density.min()
    else:
        density = room * places ** (alpha - 1) * (1 - places) ** (beta - 1)
        low, high = 0.0, values / density.min()

    def points(level: float) -> np.ndarray:
        return np.clip(np.exp(np.clip(level + density, 0, 40)) if steep else level * density, 1, room)

    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if points(middle).sum() < values else (low, middle)
    exact = points(low)
    sizes = np.floor(exact).astype(int)
    for band in np.argsort(sizes - exact, kind="stable"):  # the largest remainders first
        if sizes.sum() < values and sizes[band] < room[band]:
            sizes[band] += 1
    return tuple(int(size) for size in sizes)
