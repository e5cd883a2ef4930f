"""Context model: the probability that a weight is non-zero, from the weights decoded before it, in integer arithmetic.

A tensor is coded row by row (output channels), each row in parts of ``width`` columns (input channels x kernel
positions). The model tracks three shares of non-zeros: of the same column in the rows above, of the column's input
channel (for linear layers: of the neighbouring columns) in the rows above, and of the previous parts of this row. Their
log-odds, weighted by small integers from the stream, select one of 64 fixed probabilities.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

ODDS = 16  # log-odds are in sixteenths of a factor of two
WEIGHT = 32  # a weight of 32 means 1.0
PRIOR = 4  # rows as which the average density counts
NARROWEST = 64  # fewest columns of a part
ROW_PRIOR = 16  # columns as which the average density counts
REACH = 2  # neighbouring columns on either side, in linear layers
SHIFT = 7  # ODDS * WEIGHT units a factor of two, four classes a factor of two

# sixteen times the binary logarithm of the middle of each sixteenth between 1 and 2
MANTISSA = np.array([1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 13, 14, 15, 16], dtype=np.int64)
# the logistic curve in quarter octaves of odds, in 1 / 16384, never below 64
SQUASH = np.array(
    [
        64, 76, 90, 107, 127, 151, 179, 212, 252, 299, 354, 420, 496, 587, 693, 818,
        964, 1134, 1331, 1558, 1820, 2120, 2461, 2846, 3277, 3755, 4280, 4850, 5461, 6109, 6786, 7484,
        8192, 8900, 9598, 10275, 10923, 11534, 12104, 12629, 13107, 13538, 13923, 14264, 14564, 14826, 15053, 15250,
        15420, 15566, 15691, 15797, 15888, 15964, 16030, 16085, 16132, 16172, 16205, 16233, 16257, 16277, 16294, 16308,
    ],
    dtype=np.int64,
)  # fmt: skip


@dataclass(frozen=True)
class Weights:
    """Fitted parameters: density in units of 1 / 65536, weights of the three log-odds in units of 1 / 32, and a bias."""

    density: int
    bias: int
    column: int
    beside: int
    row: int


class NonzeroCounts:
    """Counts of the non-zeros coded so far, for rows of ``columns`` with ``kernel`` positions per channel."""

    def __init__(self, columns: int, kernel: int, density: int) -> None:
        self._columns, self._kernel, self._density = columns, kernel, density
        self._above = np.zeros(columns, dtype=np.int64)
        self._rows = 0
        self._row, self._columns_done = 0, 0
        self._odds: np.ndarray | None = None

    def odds(self, begin: int, end: int) -> np.ndarray:
        """Return the log-odds (end - begin, 3) of columns ``begin`` to ``end`` of the current row."""
        if self._odds is None:
            column = odds((self._above << 16) + PRIOR * self._density, self._rows + PRIOR)
            beside, size = self._beside()
            self._odds = np.stack(
                [column, odds((beside << 16) + PRIOR * size * self._density, size * (self._rows + PRIOR))], 1
            )
        row = odds(np.array([(self._row << 16) + ROW_PRIOR * self._density]), self._columns_done + ROW_PRIOR)
        return np.concatenate([self._odds[begin:end], np.broadcast_to(row, (end - begin, 1))], axis=1)

    def update(self, begin: int, flags: np.ndarray) -> None:
        """Add the decoded ``flags`` of the columns from ``begin`` on."""
        if self._columns_done == 0:
            self._pending = np.zeros(self._columns, dtype=np.int64)
        self._pending[begin : begin + len(flags)] = flags
        self._row += int(flags.sum())
        self._columns_done += len(flags)
        if self._columns_done == self._columns:
            self._above += self._pending
            self._rows += 1
            self._row, self._columns_done, self._odds = 0, 0, None

    def _beside(self) -> tuple[np.ndarray, int]:
        if self._kernel > 1:
            sums = self._above.reshape(-1, self._kernel).sum(axis=1)
            return np.repeat(sums, self._kernel), self._kernel
        padded = np.concatenate([np.zeros(REACH + 1, np.int64), np.cumsum(self._above)])
        padded = np.concatenate([padded, np.full(REACH, padded[-1])])
        span = 2 * REACH + 1
        return padded[span:] - padded[:-span], span


def odds(numerator: np.ndarray, denominator: int) -> np.ndarray:
    """Return ``16 log2(p / (1 - p))`` for ``p = numerator / denominator`` in units of 1 / 65536."""
    return LOGIT[np.clip(numerator // denominator, 16, (1 << 16) - 16)]


def logarithm(value: np.ndarray) -> np.ndarray:
    """Return ``16 log2(value)`` of positive integers below 2**31, approximated from the leading bits."""
    exponent = np.frexp(value.astype(np.float64))[1].astype(np.int64) - 1  # exact: position of the highest bit
    return ODDS * exponent + MANTISSA[((value << 4) >> exponent) & 15]


_SHARES = np.clip(np.arange(1 << 16), 16, (1 << 16) - 16)
LOGIT = (logarithm(_SHARES) - logarithm((1 << 16) - _SHARES)).astype(np.int16)  # of every share in units of 1 / 65536


def parts(columns: int, kernel: int, rows: int, max_parts: int) -> int:
    """Return the columns of a part: whole channels, at least 64 columns, at most ``max_parts`` parts or one per row."""
    channels = columns // kernel
    per_row = max(min(max_parts // max(rows, 1), columns // NARROWEST), 1)
    return -(-channels // per_row) * kernel


def cells(rows: int, columns: int, width: int) -> Iterator[tuple[int, int, int]]:
    """Yield row, first column and end column of every part in coding order."""
    for row in range(rows):
        for begin in range(0, columns, width):
            yield row, begin, min(begin + width, columns)


def probability(features: np.ndarray, weights: Weights) -> np.ndarray:
    """Return the probability of a non-zero in units of 1 / 2**14 for log-odds (N, 3)."""
    score = np.full(len(features), weights.bias, dtype=np.int32)  # log-odds of at most 2^8, weights of at most 2^10
    for place, weight in enumerate((weights.column, weights.beside, weights.row)):
        score += features[:, place].astype(np.int32) * np.int32(weight)
    return SQUASH[np.clip(((score + (1 << SHIFT >> 1)) >> SHIFT) + 32, 0, 63)]
