"""Decoders of compressed weights in numpy, bit for bit equal to the torch layers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from .hadamard import padded_size, walsh
from .hashing import hash_pairs, permutation, remainders

SIGN = 0x9E3779B9  # the sign hash is the same function under ``seed ^ SIGN``
CHUNK = 1 << 18  # weights hashed at once: a few arrays of this size fit in the cache
LARGEST_INPUT = 255  # of integer layers, after quantization
CACHED = 1 << 22  # weights of a layer up to which its hashed indices are cached


def check_encoding(form: Mapping[str, np.ndarray], edit: Mapping[str, Any], limit: int) -> None:
    """Check an encoded weight before it is decoded.

    Raises:
        ValueError: values are not finite, the edit is inconsistent, or the weight would have more than ``limit`` elements.
    """
    if not all(np.isfinite(array).all() for array in form.values() if array.dtype.kind == "f"):
        raise ValueError("some values are not finite")
    size = 0  # other encodings decode to as many numbers as they store
    if "shape" in edit:
        shape, sizes = edit["shape"], edit["sizes"]
        if not all(type(side) is int and side > 0 for side in (*shape, *sizes, edit["seed"] + 1)) or len(shape) < 2:
            raise ValueError(f"shape {shape}, sizes {sizes} or seed {edit['seed']} is impossible")
        if form["values"].shape != (sum(sizes),) or len(sizes) not in (1, sum(shape[2:]) - 1):
            raise ValueError(f"{form['values'].shape} values do not match sizes {sizes} of shape {shape}")
        size = math.prod(shape)
    elif "signs" in form:
        size = form["norms"].size * form["signs"].shape[1]
    elif "inputs" in edit:
        size = form["indices"].size * form["codebook"].shape[2]
    if size > limit:
        raise ValueError(f"{size} numbers are more than the file can be trusted to hold")


def beyond_int32(integers: np.ndarray, bias: np.ndarray | None) -> str:
    """Return why the accumulators of int8 ``integers`` (O, ...) with ``bias`` (O,) may overflow int32; empty if they cannot."""
    if integers.dtype != np.int8 or integers.ndim < 2 or bias is None or bias.shape != integers.shape[:1]:
        return "expected rows of int8 values and one bias for each"
    rows = integers.reshape(len(integers), math.prod(integers.shape[1:]))
    step = max(1, CHUNK // max(1, rows.shape[1]))
    sums = [
        np.abs(rows[at : at + step].astype(np.int16)).sum(1, dtype=np.int64) for at in range(0, max(1, len(rows)), step)
    ]
    if not (np.isfinite(bias).all() and np.array_equal(bias, np.rint(bias))):
        return "the biases are not integers"
    most = (np.concatenate(sums) * LARGEST_INPUT + np.abs(bias.astype(np.float64))).max(initial=0)
    return "" if most < 1 << 31 else f"accumulators may reach {most:.3g}, which overflows int32"


def hashed_weight(values: np.ndarray, shape: Sequence[int], sizes: Sequence[int], seed: int) -> np.ndarray:
    """Return the weight of ``shape`` whose entries, or cosine coefficients, are hashed from ``values`` (sum of sizes,)."""
    table = np.concatenate([values, -values])
    rows = [table[places] for _, places in hashed_places(tuple(shape), tuple(sizes), seed)]
    weight = np.concatenate(rows).reshape(tuple(shape))
    return from_frequencies(weight, np.concatenate) if is_spectral(shape, sizes) else weight


def is_spectral(shape: Sequence[int], sizes: Sequence[int]) -> bool:
    """Return whether the values are cosine coefficients in frequency bands instead of weights."""
    return len(shape) == 4 and len(sizes) > 1


def hashed_places(shape: tuple[int, ...], sizes: tuple[int, ...], seed: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield slices of rows and their indices (rows, columns) int32 into ``concatenate([values, -values])``."""
    rows, columns = shape[0], math.prod(shape[1:])
    if rows * columns <= CACHED:
        yield slice(0, rows), _all_places(shape, sizes, seed)
        return
    step = max(1, CHUNK // columns)
    for start in range(0, rows, step):
        stop = min(start + step, rows)
        yield slice(start, stop), _places(shape, sizes, seed, start, stop)


@lru_cache(maxsize=16)
def _all_places(shape: tuple[int, ...], sizes: tuple[int, ...], seed: int) -> np.ndarray:
    step = max(1, CHUNK // max(1, math.prod(shape[1:])))
    parts = [_places(shape, sizes, seed, at, min(at + step, shape[0])) for at in range(0, shape[0], step)]
    return np.concatenate(parts)


def _places(shape: tuple[int, ...], sizes: tuple[int, ...], seed: int, start: int, stop: int) -> np.ndarray:
    rows = np.arange(start, stop, dtype=np.uint32)[:, None]
    columns = np.arange(math.prod(shape[1:]), dtype=np.uint32)
    hashes = hash_pairs(rows, columns, seed)
    if is_spectral(shape, sizes):
        bands = band_of_column(shape)
        places = np.remainder(hashes, np.array(sizes, dtype=np.uint32)[bands])
        places += (np.cumsum(sizes) - sizes).astype(np.uint32)[bands]
    else:
        places = remainders(hashes, sizes[0])
    places += (hash_pairs(rows, columns, seed ^ SIGN) >> np.uint32(31)) * np.uint32(sum(sizes))
    return places.view(np.int32)


def band_of_column(shape: Sequence[int]) -> np.ndarray:
    """Return the frequency band u + v of every column of a weight (O, I, kH, kW), shape (I kH kW,)."""
    grid = np.add.outer(np.arange(shape[2]), np.arange(shape[3]))
    return np.tile(grid.reshape(-1), shape[1])


def cosines(size: int) -> np.ndarray:
    """Return the orthonormal DCT-II matrix (frequency, position)."""
    places = np.arange(size)
    matrix = np.cos(np.pi * np.outer(places, 2 * places + 1) / (2 * size)) * math.sqrt(2 / size)
    matrix[0] /= math.sqrt(2)
    return matrix


def from_frequencies(coefficients: Any, join: Any) -> Any:
    """Return the inverse cosine transform over the last two axes; numpy and torch add in the same order."""
    return _transformed(_transformed(coefficients, -2, False, join), -1, False, join)


def to_frequencies(weight: Any, join: Any) -> Any:
    """Return the cosine transform over the last two axes."""
    return _transformed(_transformed(weight, -2, True, join), -1, True, join)


def _transformed(values: Any, axis: int, forward: bool, join: Any) -> Any:
    size = values.shape[axis]
    matrix = cosines(size) if forward else cosines(size).T
    parts = [
        values[..., place : place + 1, :] if axis == -2 else values[..., place : place + 1] for place in range(size)
    ]
    rows = []
    for row in matrix:
        total = parts[0] * float(row[0])
        for factor, part in zip(row[1:], parts[1:], strict=True):
            total = total + part * float(factor)
        rows.append(total)
    return join(rows, axis)


def fastfood_weight(signs: np.ndarray, gauss: np.ndarray, norms: np.ndarray, seed: int) -> np.ndarray:
    """Return the matrix S H G P H B (outputs, inputs); see :mod:`..layers.fastfood`."""
    blocks, inputs = signs.shape
    size = gauss.shape[1]
    if size != padded_size(inputs) or gauss.shape[0] != blocks or not (blocks - 1) * size < len(norms) <= blocks * size:
        raise ValueError(f"factors of shapes {signs.shape}, {gauss.shape} and {norms.shape} do not match each other")
    weight = np.empty((len(norms), inputs), dtype=norms.dtype)
    step = max(1, CHUNK // size)
    for block in range(blocks):
        rows = slice(block * size, min((block + 1) * size, len(norms)))
        order = permutation(size, block, seed)
        for start in range(0, inputs, step):
            columns = slice(start, min(start + step, inputs))
            unit = np.zeros((columns.stop - start, size), dtype=norms.dtype)  # each row is one column of B
            unit[np.arange(len(unit)), np.arange(start, columns.stop)] = signs[block, columns]
            columns_of_weight = walsh(walsh(unit, np.concatenate)[:, order] * gauss[block], np.concatenate)
            weight[rows, columns] = (columns_of_weight[:, : rows.stop - rows.start] * norms[rows]).T
    return weight


def product_weight(codebook: np.ndarray, indices: np.ndarray, inputs: int, order: np.ndarray | None) -> np.ndarray:
    """Return the weight (O, inputs, ...) of codewords (M, K, C) at ``indices`` (M, O, ...); see :mod:`..layers.pq`."""
    subspaces, entries, width = codebook.shape
    if indices.shape[0] != subspaces or not (subspaces - 1) * width < inputs <= subspaces * width:
        raise ValueError(f"a codebook of shape {codebook.shape} does not match {inputs} inputs")
    offsets = (np.arange(subspaces) * entries).reshape(-1, *[1] * (indices.ndim - 1))
    parts = codebook.reshape(-1, width)[indices + offsets]  # (M, O, ..., C)
    kernel = range(2, indices.ndim)
    weight = parts.transpose(1, 0, indices.ndim, *kernel).reshape(indices.shape[1], -1, *indices.shape[2:])[:, :inputs]
    return np.ascontiguousarray(weight if order is None else weight[:, np.argsort(order)])
