"""Context-adaptive coding of integer tensors: zeros are predicted from decoded neighbours, other values share one table.

Stream: fitted weights, width of parts, table of the non-zero values, then one ANS stream of all flags (zero or not) in
coding order followed by all non-zero values in that order.
"""

from __future__ import annotations

import math

import numpy as np

from ...core.errors import ModelFileError
from . import alphabet, ans, context
from .bits import ByteReader, signed, varint
from .context import NonzeroCounts, Weights

MAX_PARTS = 4096
FIT_SAMPLES = 200_000
FULL = (1 << ans.MODEL_BITS) - 1
FLAG_BITS = 14


def split(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return the rows, columns and kernel positions of a weight of ``shape`` (O, I, ...)."""
    kernel = math.prod(shape[2:])
    return shape[0], math.prod(shape[1:]), kernel


def encode(values: np.ndarray) -> tuple[bytes, int] | None:
    """Return the stream of a tensor with two or more axes and the bytes of its tables; None if it cannot save bytes."""
    if values.ndim < 2 or not 0 < np.count_nonzero(values) < values.size:
        return None
    rows, columns, kernel = split(values.shape)
    if rows > MAX_PARTS or columns < 2:
        return None
    width = context.parts(columns, kernel, rows, MAX_PARTS)
    flat = values.reshape(rows, columns)
    flags = (flat != 0).view(np.int8)
    density = min(max(round(float(flags.mean()) * (1 << 16)), 16), (1 << 16) - 16)
    features = _features(flags, kernel, width, density)
    weights = fit(features, flags.reshape(-1), density)
    table = alphabet.encode(flat[flags.view(np.bool_)])
    if table is None:
        return None
    head = b"".join(
        [varint(density), signed(weights.bias), *(signed(w) for w in (weights.column, weights.beside, weights.row))]
    ) + varint(width)
    encoder = ans.AnsEncoder()
    encoder.push(table.ranks, table.model)
    flat_flags = flags.reshape(-1)
    for begin in reversed(range(0, flat_flags.size, ans.CHUNK)):
        chunk = slice(begin, begin + ans.CHUNK)
        encoder.push_flags(flat_flags[chunk], context.probability(features[chunk], weights), FLAG_BITS)
    return head + table.head + encoder.to_bytes(), len(head) + len(table.head)


def decode(reader: ByteReader, shape: tuple[int, ...]) -> np.ndarray:
    """Return the int64 tensor of ``shape``, flattened.

    Raises:
        ModelFileError: the stream is damaged or does not match the shape.
    """
    if len(shape) < 2 or 0 in shape:
        raise ModelFileError(f"a coded stream with contexts needs a shape with rows and columns, found {shape}")
    rows, columns, kernel = split(shape)
    density = reader.varint()
    weights = Weights(density, *(reader.signed() for _ in range(4)))
    width = reader.varint()
    if (
        not 16 <= density <= (1 << 16) - 16
        or width != context.parts(columns, kernel, rows, MAX_PARTS)
        or rows > MAX_PARTS
    ):
        raise ModelFileError("a coded stream with contexts has impossible settings")
    if max(abs(weights.column), abs(weights.beside), abs(weights.row)) > 1 << 10 or abs(weights.bias) > 1 << 20:
        raise ModelFileError("a coded stream with contexts has weights out of range")
    symbols, model = alphabet.decode(reader)
    decoder = ans.Decoder(reader.rest())
    counts = NonzeroCounts(columns, kernel, density)
    flags = np.zeros((rows, columns), dtype=bool)
    for row, begin, end in context.cells(rows, columns, width):
        row_flags = decoder.pop_flags(context.probability(counts.odds(begin, end), weights), FLAG_BITS)
        flags[row, begin:end] = row_flags
        counts.update(begin, row_flags)
    values = np.zeros((rows, columns), dtype=np.int64)
    values[flags] = symbols[decoder.pop(model, int(flags.sum()))]
    decoder.finish()
    return values.reshape(-1)


def fit(features: np.ndarray, flags: np.ndarray, density: int) -> Weights:
    """Return the weights that minimise the cost of ``flags``: logistic regression with Newton's method."""
    step = max(len(flags) // FIT_SAMPLES, 1)
    inputs = np.concatenate([features[::step] / context.ODDS * math.log(2), np.ones((len(flags[::step]), 1))], axis=1)
    labels = flags[::step].astype(np.float64)
    solution = np.array([1.0, 0.0, 0.0, 0.0])
    ridge = np.diag([1.0, 1.0, 1.0, 1e-3])
    for _ in range(8):
        share = 1 / (1 + np.exp(-np.clip(inputs @ solution, -30, 30)))
        gradient = inputs.T @ (share - labels) + ridge @ solution
        hessian = (inputs * (share * (1 - share))[:, None]).T @ inputs + ridge
        solution = solution - np.linalg.solve(hessian, gradient)
    column, beside, row = (int(w) for w in np.clip(np.rint(solution[:3] * context.WEIGHT), -1000, 1000))
    bias = round(float(solution[3]) / math.log(2) * context.ODDS * context.WEIGHT)
    return Weights(density, max(min(bias, 1 << 20), -(1 << 20)), column, beside, row)


def _features(flags: np.ndarray, kernel: int, width: int, density: int) -> np.ndarray:
    rows, columns = flags.shape
    counts = NonzeroCounts(columns, kernel, density)
    features = np.empty((rows, columns, 3), dtype=np.int16)
    for row, begin, end in context.cells(rows, columns, width):
        features[row, begin:end] = counts.odds(begin, end)
        counts.update(begin, flags[row, begin:end])
    return features.reshape(-1, 3)
