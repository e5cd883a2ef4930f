"""Selection of similar neurons to merge by saliency (Srinivas & Babu, BMVC 2015, arXiv:1507.06149).

If neurons i and j compute nearly the same, j can be removed after its outgoing weights a_j are added to those of i. The
change at the next layer is bounded by the saliency s_ij = <a_j^2> eps_ij^2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

DISTANCES = ("relative", "joint")
SMALLEST = 1e-9  # sums of opposed neurons
BINS = 100
ROWS, COLUMNS = 256, 1024  # worked on together in double precision
VALUES = 1 << 18  # of rows worked on together, where they are long
QUANTILE = 0.95  # beyond it outliers would put the mode into the first bin


class MergedPair(NamedTuple):
    """Neuron ``removed`` is removed; ``factor`` times its outgoing weights is added to those of ``into``."""

    removed: int
    into: int
    factor: float
    saliency: float


@dataclass(frozen=True, eq=False)
class Neurons:
    """One layer: incoming weights (n, d), biases (n,), outgoing weights (n, m), and whether its nonlinearity is homogeneous."""

    weight: np.ndarray
    bias: np.ndarray
    outgoing: np.ndarray
    scaled: bool = True

    @property
    def norms(self) -> np.ndarray:
        """The scale (n,) of every neuron; 1 if scales cannot be factored out."""
        return lengths(self.weight) if self.scaled else np.ones(len(self.weight))

    @property
    def zero_rows(self) -> np.ndarray:
        """The indices (k,) of the neurons without weights, whose output is constant."""
        return np.flatnonzero(lengths(self.weight) == 0)


def blocks(values: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield blocks of rows of ``values`` in double precision."""
    rows_at_once = max(1, min(ROWS, VALUES // max(values[:1].size, 1)))
    for start in range(0, len(values), rows_at_once):
        rows = slice(start, min(start + rows_at_once, len(values)))
        yield rows, values[rows].astype(np.float64)


def lengths(values: np.ndarray) -> np.ndarray:
    """Return the norm of every row."""
    return np.concatenate([np.linalg.norm(part, axis=1) for _, part in blocks(values)])


def mean_squares(values: np.ndarray, scale: np.ndarray | float = 1.0) -> np.ndarray:
    """Return the mean square of every row times its ``scale`` (n,)."""
    factors = np.broadcast_to(scale, len(values))
    return np.concatenate([np.mean(np.square(part * factors[rows, None]), axis=1) for rows, part in blocks(values)])


def products(weight: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return the Gram matrix (n, n) of the rows of ``weight`` (n, d) divided by ``scale`` (n,)."""
    gram = np.zeros((len(weight), len(weight)))
    for start in range(0, weight.shape[1], COLUMNS):
        columns = weight[:, start : start + COLUMNS]
        for at in range(0, len(gram), ROWS):
            rows = columns[at : at + ROWS].astype(np.float64) / scale[at : at + ROWS, None]
            for to in range(0, len(gram), ROWS):
                others = columns[to : to + ROWS].astype(np.float64) / scale[to : to + ROWS, None]
                gram[at : at + ROWS, to : to + ROWS] += rows @ others.T
    return gram


def distances(neurons: Neurons, distance: str = "relative") -> np.ndarray:
    """Return eps^2 (n, n) between neurons of unit norm; infinite on the diagonal and for neurons without weights.

    ``relative`` is the distance of the paper: ||w_i - w_j|| / ||w_i + w_j|| + |b_i - b_j| / |b_i + b_j|. Its second
    term is noise if biases are small; ``joint`` is ||w_i - w_j||^2 + (b_i - b_j)^2.
    """
    norms = neurons.norms
    safe = np.where(norms > 0, norms, 1.0)
    bias = neurons.bias / safe
    result = products(neurons.weight, safe)
    squares = np.diag(result).copy()
    for rows, gram in blocks(result):
        total = squares[rows, None] + squares[None, :]
        apart = np.maximum(total - 2 * gram, 0)
        step = np.abs(bias[rows, None] - bias[None, :])
        if distance == "joint":
            result[rows] = apart + step**2
            continue
        sums = np.sqrt(np.maximum(total + 2 * gram, SMALLEST**2))
        step /= np.maximum(np.abs(bias[rows, None] + bias[None, :]), SMALLEST)
        result[rows] = (np.sqrt(apart) / sums + step) ** 2
    np.fill_diagonal(result, np.inf)
    zero_rows = neurons.zero_rows
    result[zero_rows] = result[:, zero_rows] = np.inf
    return result


def energies(neurons: Neurons) -> np.ndarray:
    """Return <a^2> (n,) of the outgoing weights, multiplied by the scale of each neuron."""
    return mean_squares(neurons.outgoing) * neurons.norms**2


def saliencies(neurons: Neurons, distance: str = "relative") -> np.ndarray:
    """Return s (n, n): column j is the saliency of merging neuron j into each of the others."""
    result, energy = distances(neurons, distance), energies(neurons)
    for rows, far in blocks(result):
        np.multiply(far, energy, out=result[rows], where=np.isfinite(far))  # nothing to merge stays so without energy
    return result


def cutoff(saliency: np.ndarray) -> float:
    """Return the mode of the histogram of the saliencies of all pairs, without the highest twentieth."""
    values = saliency[np.isfinite(saliency)]
    if not values.size:
        return 0.0
    counts, edges = np.histogram(values, bins=BINS, range=(0.0, max(float(np.quantile(values, QUANTILE)), 1e-300)))
    mode = int(np.argmax(counts))
    return float(edges[mode] + edges[mode + 1]) / 2


def merges(
    neurons: Neurons,
    *,
    count: int | None = None,
    limit: float | None = None,
    distance: str = "relative",
    free: Sequence[int] = (),
) -> list[MergedPair]:
    """Return the merges in order: ``count`` of them, or all with a saliency of at most ``limit``.

    Neurons in ``free`` can be removed without being merged; they come first and cost nothing.
    """
    scale = neurons.norms
    far = distances(neurons, distance)
    sums: dict[int, np.ndarray] = {}  # outgoing weights of those others were merged into, for unit norms
    energy = mean_squares(neurons.outgoing, scale)
    alive = np.ones(len(scale), dtype=bool)
    most = len(scale) - 1 if count is None else min(count, len(scale) - 1)
    done = [MergedPair(j, j, 0.0, 0.0) for j in free[:most]]
    alive[[merge.removed for merge in done]] = False
    near, best = nearest(far, np.arange(len(far)))
    while len(done) < most:
        cost = np.where(alive & np.isfinite(best), energy * np.where(np.isfinite(best), best, 0), np.inf)
        j = int(np.argmin(cost))
        if not np.isfinite(cost[j]) or (limit is not None and cost[j] > limit):
            break
        i = int(near[j])
        done.append(MergedPair(j, i, float(scale[j] / scale[i]), float(cost[j])))
        alive[j] = False
        gone = sums.pop(j) if j in sums else neurons.outgoing[j] * scale[j]
        sums[i] = (sums[i] if i in sums else neurons.outgoing[i] * scale[i]) + gone
        energy[i] = np.mean(np.square(sums[i]))
        far[j] = np.inf
        again = np.flatnonzero((near == j) & alive)
        near[again], best[again] = nearest(far, again)
    return done


def nearest(far: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the row (k,) and value of the minimum of each of ``columns``, few columns at a time."""
    near, best = np.zeros(len(columns), dtype=np.intp), np.zeros(len(columns))
    for start in range(0, len(columns), ROWS):
        some = far[:, columns[start : start + ROWS]]
        near[start : start + ROWS], best[start : start + ROWS] = np.argmin(some, axis=0), np.min(some, axis=0)
    return near, best


def outgoing_after(outgoing: np.ndarray, done: list[MergedPair]) -> dict[int, np.ndarray]:
    """Return the outgoing weights (m,), after merging, of the remaining neurons that others were merged into."""
    result: dict[int, np.ndarray] = {}
    for merge in done:
        if merge.into == merge.removed:  # it was free
            continue
        gone = result.pop(merge.removed) if merge.removed in result else outgoing[merge.removed].astype(np.float64)
        column = result[merge.into] if merge.into in result else outgoing[merge.into].astype(np.float64)
        result[merge.into] = column + merge.factor * gone
    return result
