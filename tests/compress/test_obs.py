"""The optimal brain surgeon against explicit least squares, exhaustive search and inverses computed anew."""

from __future__ import annotations

import itertools

import pytest
import torch
from hashpress.compress import obs


def problem(rows=3, size=6, samples=40, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(size, size, generator=generator, dtype=torch.float64)
    X = torch.randn(samples, size, generator=generator, dtype=torch.float64) @ mix
    return torch.randn(rows, size, generator=generator, dtype=torch.float64), X


def least_squares(w, X, kept):
    """The best weights on the columns ``kept`` by an explicit solver."""
    result = torch.zeros_like(w)
    if kept:
        result[kept] = torch.linalg.lstsq(X[:, kept], X @ w).solution
    return result


def test_error_is_that_of_the_outputs():
    W, X = problem()
    other = W + 0.1
    expected = ((X @ (other - W).T) ** 2).sum(0)
    assert torch.allclose(obs.error(W, other, obs.hessian(X)), expected)


def test_pruned_weights_are_the_least_squares_solution_on_their_mask():
    W, X = problem(rows=5, size=8)
    pruned = obs.prune_exact(W, obs.hessian(X), keep=17)
    assert int((pruned != 0).sum()) == 17
    for w, p in zip(W, pruned, strict=True):
        kept = torch.nonzero(p).flatten().tolist()
        assert torch.allclose(p, least_squares(w, X, kept), atol=1e-8)
    mask = pruned != 0
    assert torch.allclose(obs.best_given_mask(W, obs.hessian(X), mask), pruned, atol=1e-8)


def test_each_removal_is_the_cheapest_by_explicit_search():
    """Greedy search with a least-squares solution for every candidate."""
    W, X = problem(rows=1, size=7, seed=3)
    kept = list(range(7))
    for left in range(6, 0, -1):
        costs = {}
        for place in kept:
            rest = [k for k in kept if k != place]
            costs[place] = float(((X @ (least_squares(W[0], X, rest) - W[0])) ** 2).sum())
        kept.remove(min(costs, key=costs.get))
        pruned = obs.prune_exact(W, obs.hessian(X), keep=left)
        assert torch.nonzero(pruned[0]).flatten().tolist() == kept


def test_rows_share_the_weights_where_they_matter():
    W, X = problem(rows=4, size=6, seed=5)
    W[2] *= 100
    H = obs.hessian(X)
    everywhere = obs.prune_exact(W, H, keep=12)
    assert (everywhere[2] != 0).all()
    assert int((everywhere != 0).sum()) == 12
    by_row = obs.prune_exact(W, H, keep=3, per_row=True)
    assert ((by_row != 0).sum(1) == 3).all()
    assert obs.error(W, everywhere, H).sum() < obs.error(W, obs.prune_exact(W, H, keep=3, per_row=True), H).sum()


def test_one_removal_is_optimal_over_all_masks():
    W, X = problem(rows=1, size=5, seed=8)
    H = obs.hessian(X)
    best = min(
        float(obs.error(W, least_squares(W[0], X, list(kept))[None], H)) for kept in itertools.combinations(range(5), 4)
    )
    assert float(obs.error(W, obs.prune_exact(W, H, keep=4), H)) == pytest.approx(best)


def grid(step):
    return lambda values, rows: torch.round(values / step) * step


def one_by_one(W, H, order, settle):
    """Columns in a fixed order, the inverse of what is left computed anew each time."""
    W = W.clone()
    left = list(order)
    while left:
        p = left.pop(0)
        inverse = torch.linalg.inv(H[[p, *left]][:, [p, *left]])
        value = settle(W[:, p], p)
        change = (W[:, p] - value) / inverse[0, 0]
        W[:, left] -= change[:, None] * inverse[0, 1:]
        W[:, p] = value
    return W


@pytest.mark.parametrize("by_diagonal", [True, False])
@pytest.mark.parametrize("block", [1, 4, 128])
def test_blocked_rounding_is_the_surgeon_in_that_order(by_diagonal, block):
    W, X = problem(rows=6, size=10, seed=2)
    H = obs.hessian(X)
    order = torch.argsort(H.diagonal(), descending=True).tolist() if by_diagonal else range(10)
    expected = one_by_one(W, H, order, lambda column, p: torch.round(column / 0.3) * 0.3)
    got = obs.quantise_blocked(W, H, grid(0.3), block=block, by_diagonal=by_diagonal)
    assert torch.allclose(got, expected, atol=1e-9)


def test_blocked_pruning_is_the_surgeon_with_that_mask():
    W, X = problem(rows=6, size=12, seed=4)
    H = obs.hessian(X)
    pruned = obs.prune_blocked(W, H, 0.5, block=5, scope="layer")
    assert int((pruned == 0).sum()) == 36
    gone = pruned == 0
    expected = one_by_one(W, H, range(12), lambda column, p: torch.where(gone[:, p], 0.0, column))
    assert torch.allclose(pruned, expected, atol=1e-9)
    in_blocks = obs.prune_blocked(W, H, 0.5, block=4)
    assert ((in_blocks == 0).view(6, 3, 4).sum((0, 2)) == 12).all()


def test_exact_rounding_follows_the_surgeon():
    """Oracle: one row, the inverse of what is left computed anew, the cheapest weight first."""
    W, X = problem(rows=3, size=6, seed=9)
    H = obs.hessian(X)
    got = obs.quantise_exact(W, H, grid(0.4))
    for row in range(3):
        w, left, done = W[row].clone(), list(range(6)), torch.zeros(6, dtype=torch.float64)
        while left:
            inverse = torch.linalg.inv(H[left][:, left])
            missing = w[left] - torch.round(w[left] / 0.4) * 0.4
            at = int(torch.argmin(missing**2 / inverse.diagonal()))
            p = left[at]
            done[p] = w[p] - missing[at]
            w[left] -= missing[at] / inverse[at, at] * inverse[:, at]
            left.pop(at)
        assert torch.allclose(got[row], done, atol=1e-9)


def test_compensation_beats_rounding_and_cutting():
    W, X = problem(rows=16, size=32, samples=400, seed=1)
    H = obs.hessian(X)
    nearest = grid(0.5)(W, None)
    exact, blocked = obs.quantise_exact(W, H, grid(0.5)), obs.quantise_blocked(W, H, grid(0.5))
    assert obs.error(W, exact, H).sum() < 0.5 * obs.error(W, nearest, H).sum()
    assert obs.error(W, blocked, H).sum() < 0.5 * obs.error(W, nearest, H).sum()
    keep = W.numel() // 2
    cut = torch.where(W.abs() >= W.abs().flatten().sort().values[keep], W, 0.0)
    pruned, rough = obs.prune_exact(W, H, keep), obs.prune_blocked(W, H, 0.5, block=8)
    assert obs.error(W, pruned, H).sum() < 0.3 * obs.error(W, cut, H).sum()
    assert obs.error(W, rough, H).sum() < 0.8 * obs.error(W, torch.where(rough == 0, 0.0, W), H).sum()


def test_values_are_on_the_grid_and_zeros_stay():
    W, X = problem(rows=70, size=9, seed=6)
    W[:, ::3] = 0
    H = obs.hessian(X)
    step = torch.linspace(0.1, 0.5, 70, dtype=torch.float64)

    def own(values, rows):
        size = step[rows]
        return torch.clamp(torch.round(values / size), -3, 3) * size

    for got in (obs.quantise_exact(W, H, own, step), obs.quantise_blocked(W, H, own)):
        assert (got[:, ::3] == 0).all()
        whole = got / step[:, None]
        assert torch.allclose(whole, whole.round(), atol=1e-9)
        assert whole.abs().max() <= 3 + 1e-9


@pytest.mark.parametrize("rows", [1, 4, 7])
def test_rows_are_worked_on_a_few_at_a_time(monkeypatch, rows):
    W, X = problem(rows=10, size=9, seed=12)
    W[3] *= 5
    W[:, 2] = 0
    H, step = obs.hessian(X), torch.linspace(0.1, 0.5, 10, dtype=torch.float64)

    def own(values, rows):
        return torch.round(values / step[rows]) * step[rows]

    def found():
        return obs.prune_exact(W, H, 41), obs.prune_exact(W, H, 5, per_row=True), obs.quantise_exact(W, H, own, step)

    at_once = found()
    monkeypatch.setattr(obs, "CACHE", rows * 9**2)
    monkeypatch.setattr(obs, "BATCHED", rows * 9**2)
    monkeypatch.setattr(obs, "PENDING", rows)
    assert obs.rows_at_once(9) == rows
    for whole, part in zip(at_once, found(), strict=True):
        assert torch.allclose(whole, part, atol=1e-12)


def test_zeros_do_not_make_up_for_others():
    """A row with zeros is rounded as the smaller problem without these columns is."""
    W, X = problem(rows=4, size=8, seed=7)
    W[:, [1, 5]] = 0
    rest = [0, 2, 3, 4, 6, 7]
    got = obs.quantise_exact(W, obs.hessian(X), grid(0.4))
    small = obs.quantise_exact(W[:, rest], obs.hessian(X[:, rest]), grid(0.4))
    assert torch.allclose(got[:, rest], small, atol=1e-9)


def test_damping_makes_dead_and_flat_inputs_harmless():
    W, X = problem(rows=2, size=5)
    X[:, 2], X[:, 4] = 0, X[:, 3]
    H = obs.damped(obs.hessian(X))
    got = obs.quantise_blocked(W, H, grid(0.2))
    assert torch.isfinite(got).all()
    assert torch.isfinite(obs.prune_exact(W, H, 4)).all()
    assert obs.damped(torch.zeros(3, 3)).diagonal().tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("seed", range(6))
def test_blocks_go_by_the_error_that_least_squares_leaves(seed):
    """Greedy search over blocks of two readers, each refitted by an explicit solver."""
    (W, X), (V, Y) = problem(rows=3, size=8, seed=seed), problem(rows=2, size=4, seed=seed + 100)
    first, second = torch.arange(8).view(4, 2), torch.arange(4).view(4, 1)
    left = [0, 1, 2, 3]
    gone = obs.remove_blocks([(W, obs.hessian(X), first), (V, obs.hessian(Y), second)], 3)
    for place in gone:
        costs = {}
        for one in left:
            rest = [k for k in left if k != one]
            costs[one] = 0.0
            for weight, inputs, columns in ((W, X, first), (V, Y, second)):
                kept = columns[rest].flatten().tolist()
                costs[one] += sum(float(((inputs @ (least_squares(w, inputs, kept) - w)) ** 2).sum()) for w in weight)
        assert place == min(costs, key=costs.get)
        left.remove(place)
