import itertools

import numpy as np
import pytest
from hashpress.compress.factorize.tensors import evbmf, ranks, reconstruct, tucker, whiten
from hashpress.core.errors import InputError
from sklearn.decomposition import PCA
from tensorly import cp_to_tensor
from tensorly.decomposition import partial_tucker
from tensorly.tenalg import multi_mode_dot


def covariance(size, seed=0, rows=400):
    random = np.random.default_rng(seed)
    data = random.standard_normal((rows, size)) @ random.standard_normal((size, size)) * np.geomspace(3, 0.03, size)
    return np.cov(data.T, bias=True), data - data.mean(axis=0)


def test_tucker_is_exact_where_it_can_be_and_as_good_as_tensorly():
    random = np.random.default_rng(0)
    core, left, right = (
        random.standard_normal((5, 4, 3, 3)),
        random.standard_normal((12, 5)),
        random.standard_normal((9, 4)),
    )
    kernel = np.einsum("tshw,Tt,Ss->TShw", core, left, right)
    np.testing.assert_allclose(tucker.tucker2(kernel, (5, 4)).full(), kernel, atol=1e-10)
    noisy = kernel + random.standard_normal(kernel.shape)
    (core, factors), _ = partial_tucker(noisy, rank=[3, 3], modes=[0, 1], n_iter_max=200, tol=1e-12)
    theirs = np.linalg.norm(noisy - multi_mode_dot(core, factors, [0, 1]))
    ours = tucker.tucker2(noisy, (3, 3))
    assert np.linalg.norm(noisy - ours.full()) <= theirs * (1 + 1e-6)
    np.testing.assert_allclose(ours.outputs.T @ ours.outputs, np.eye(3), atol=1e-10)
    for mode, values in enumerate(tucker.spectra(noisy)):
        unfolded = np.moveaxis(noisy, mode, 0).reshape(noisy.shape[mode], -1)
        np.testing.assert_allclose(values, np.linalg.svd(unfolded, compute_uv=False), rtol=1e-6)
    with pytest.raises(InputError, match="Tucker ranks"):
        tucker.tucker2(kernel, (13, 2))


@pytest.mark.parametrize("rank", [1, 5, 20])
def test_variational_hint_counts_what_stands_out_of_the_noise(rank):
    random = np.random.default_rng(rank)
    signal = random.standard_normal((60, rank)) @ random.standard_normal((rank, 200)) / np.sqrt(rank)
    matrix = signal + 0.3 * random.standard_normal((60, 200))
    assert evbmf.rank_hint(matrix) == evbmf.rank_hint(matrix.T) == rank
    values = np.linalg.svd(matrix, compute_uv=False)
    grid = np.geomspace(0.01, 1, 2000)
    energies = [evbmf.free_energy(variance, values**2, 200, 0.3) for variance in grid]
    if rank < 20:  # nearer to full rank the estimate is known to be too large
        assert evbmf.noise(values, 60, 200) == pytest.approx(0.3**2, rel=0.05)
    assert evbmf.noise(values, 60, 200) == pytest.approx(grid[int(np.argmin(energies))], rel=0.01)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 1.0])
def test_free_energy_does_not_jump_where_a_component_appears(alpha):
    """That is how the paper defines the threshold, so it checks constant and terms against each other."""
    edge = evbmf._edge(alpha) * 200
    below, above = (evbmf.free_energy(1.0, np.array([edge * side]), 200, alpha) for side in (1 - 1e-9, 1 + 1e-9))
    assert above == pytest.approx(below, abs=0.01)


def test_variational_hint_is_clamped():
    assert evbmf.rank_hint(np.random.default_rng(0).standard_normal((60, 200))) == 1
    assert evbmf.rank_hint(np.zeros((5, 7))) == 1
    assert evbmf.rank_hint(np.ones((1, 9))) == 1


def test_response_error_is_the_error_of_responses():
    seen, data = covariance(12)
    random = np.random.default_rng(1)
    kernel, other = random.standard_normal((2, 5, 3, 2, 2))
    rows, rest = data @ kernel.reshape(5, -1).T, data @ (kernel - other).reshape(5, -1).T
    wanted = np.linalg.norm(rest) / np.linalg.norm(rows)
    assert whiten.response_error(kernel, other, seen) == pytest.approx(wanted)
    half, inverse = whiten.roots(seen)
    np.testing.assert_allclose(half @ half, seen, atol=1e-8)
    np.testing.assert_allclose(half @ inverse, np.eye(12), atol=1e-5)
    blocks = [
        [np.mean([data[:, a * 4 + p] @ data[:, b * 4 + p] for p in range(4)]) for b in range(3)] for a in range(3)
    ]
    np.testing.assert_allclose(whiten.channel_covariance(seen, 3), np.array(blocks) / len(data), atol=1e-9)


def test_refined_matrix_reaches_the_weighted_optimum():
    seen = whiten.shrunk(covariance(10)[0])
    kernel = np.random.default_rng(2).standard_normal((7, 10))
    half, _ = whiten.roots(seen)
    values = np.linalg.svd(kernel @ half, compute_uv=False)
    best = np.sqrt(np.sum(values[3:] ** 2) / np.sum(values**2))
    start = tuple(np.random.default_rng(3).standard_normal((size, 3)) for size in (7, 10))
    found = whiten.refine(kernel, start, seen, iterations=500)
    assert whiten.response_error(kernel, cp_to_tensor((None, found)), seen) == pytest.approx(best, rel=1e-3)


def test_refined_terms_serve_the_data_better_than_fits_of_weights(monkeypatch):
    seen = whiten.shrunk(covariance(24)[0])
    kernel = np.random.default_rng(4).standard_normal((8, 6, 2, 2))
    start = tuple(np.random.default_rng(5).standard_normal((size, 5)) for size in kernel.shape)
    found = whiten.refine(kernel, start, seen)
    assert whiten.response_error(kernel, cp_to_tensor((None, found)), seen) < 0.5 * whiten.response_error(
        kernel, cp_to_tensor((None, start)), seen
    )
    monkeypatch.setattr(whiten, "WORK", 1e4)  # of large kernels not all steps can be made
    errors = [
        whiten.response_error(kernel, cp_to_tensor((None, which)), seen)
        for which in (found, whiten.refine(kernel, start, seen), start)
    ]
    assert errors[0] < errors[1] < errors[2]
    plain = tucker.tucker2(kernel, (4, 3)).full()
    aware = whiten.tucker2_whitened(kernel, (4, 3), seen).full()
    assert whiten.response_error(kernel, aware, seen) < 0.7 * whiten.response_error(kernel, plain, seen)
    whole = whiten.tucker2_whitened(kernel, (8, 6), seen).full()
    np.testing.assert_allclose(whole, kernel, atol=1e-5)


def test_separable_filters_are_found_and_the_fit_is_optimal():
    random = np.random.default_rng(6)
    vertical, horizontal = random.standard_normal((3, 4, 3)), random.standard_normal((5, 3, 2))
    filters = np.einsum("mch,dmw->dchw", vertical, horizontal)
    seen = whiten.shrunk(covariance(4)[0])
    first, second = whiten.separable(filters, 3, seen)
    assert first.shape == (3, 4, 3, 1)
    assert second.shape == (5, 3, 1, 2)
    remade = np.einsum("mchx,dmxw->dchw", first, second)
    np.testing.assert_allclose(remade, filters, atol=1e-8)
    noise = random.standard_normal(filters.shape)
    first, second = whiten.separable(noise, 2, np.eye(4))
    left = np.linalg.norm(noise - np.einsum("mchx,dmxw->dchw", first, second))
    values = np.linalg.svd(noise.transpose(1, 2, 0, 3).reshape(12, 10), compute_uv=False)
    assert left == pytest.approx(np.sqrt(np.sum(values[2:] ** 2)))


def test_spectrum_is_that_of_scikit_learn():
    _, data = covariance(9)
    data = data + np.arange(9)
    pca = PCA(4).fit(data)
    energies = reconstruct.spectrum(np.cov(data.T, bias=True))
    np.testing.assert_allclose(energies[:4], pca.explained_variance_ * (len(data) - 1) / len(data))


def test_few_rows_are_projected_not_learned_by_heart():
    random = np.random.default_rng(12)
    factors = random.standard_normal((5, 40))
    clean, unseen = (random.standard_normal((count, 5)) @ factors for count in (30, 500))
    seen = clean + 0.3 * random.standard_normal(clean.shape)
    found, learned = (solve(seen, clean, 5) for solve in (reconstruct.principal, reconstruct.reduced_rank))
    pca = PCA(5).fit(seen)
    np.testing.assert_allclose(found.outputs @ found.inputs.T, pca.components_.T @ pca.components_, atol=1e-8)
    np.testing.assert_allclose(found(clean).mean(axis=0), seen.mean(axis=0), atol=1e-9)
    assert np.linalg.norm(found(unseen) - unseen) < np.linalg.norm(unseen) / 2
    assert reconstruct.principal(seen[:4], clean[:4], 9).outputs.shape == (40, 9)
    assert learned.outputs.shape == (40, 5)


def test_reduced_rank_regression_is_the_closed_form():
    random = np.random.default_rng(7)
    given = random.standard_normal((500, 8)) @ random.standard_normal((8, 8)) + 3
    wanted = given @ random.standard_normal((8, 6)) + random.standard_normal((500, 6)) * 2
    found = reconstruct.reduced_rank(wanted, given, 3)
    x, y = given - given.mean(axis=0), wanted - wanted.mean(axis=0)
    full = np.linalg.lstsq(x, y, rcond=None)[0]  # then project its fitted values on their first principal axes
    axes = np.linalg.svd(x @ full, full_matrices=False)[2][:3]
    np.testing.assert_allclose(found(given), x @ full @ axes.T @ axes + wanted.mean(axis=0), atol=1e-5)
    same = reconstruct.reduced_rank(given, given, 3)
    pca = PCA(3).fit(given)
    np.testing.assert_allclose(same(given), pca.inverse_transform(pca.transform(given)), atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(found.outputs, axis=0), np.linalg.norm(found.inputs, axis=0), rtol=1e-6)


@pytest.mark.parametrize("weight", [0.01, 1.0])
def test_auxiliary_responses_are_the_minimum_of_their_cost(weight):
    random = np.random.default_rng(8)
    goal, guess = np.maximum(random.standard_normal(60), 0), 2 * random.standard_normal(60)
    grid = np.linspace(-8, 8, 160001)[:, None]
    cost = (goal - np.maximum(grid, 0)) ** 2 + weight * (grid - guess) ** 2
    found = reconstruct.auxiliary(goal, guess, weight)
    reached = (goal - np.maximum(found, 0)) ** 2 + weight * (found - guess) ** 2
    np.testing.assert_allclose(reached, cost.min(axis=0), atol=1e-6)


def test_rectified_responses_come_out_better_with_the_nonlinear_solver():
    random = np.random.default_rng(9)
    given = random.standard_normal((2000, 5)) @ random.standard_normal((5, 16)) - 1
    wanted = np.where(
        given > 0, given, given - 6 * random.exponential(1, given.shape)
    )  # noise that no ReLU lets through

    def missed(found):
        return np.linalg.norm(np.maximum(wanted, 0) - np.maximum(found(given), 0))

    linear, better = reconstruct.reduced_rank(wanted, given, 5), reconstruct.nonlinear(wanted, given, 5)
    assert np.linalg.matrix_rank(better.outputs @ better.inputs.T) == 5
    assert missed(better) < 0.55 * missed(linear)
    weights = random.standard_normal((16, 30))
    filters = reconstruct.filterwise(weights, np.ones(16), 5)
    left, values, right = np.linalg.svd(weights, full_matrices=False)
    projected = filters.outputs @ filters.inputs.T
    np.testing.assert_allclose(projected @ weights, (left[:, :5] * values[:5]) @ right[:5], atol=1e-9)
    np.testing.assert_allclose(filters.bias + projected @ np.ones(16), np.ones(16))


def test_ranks_by_energy_cost_and_damage():
    energies = np.array([5.0, 3.0, 1.5, 0.5])
    assert [ranks.by_energy(energies, share) for share in (0.1, 0.5, 0.8, 0.81, 0.95, 1.0)] == [1, 1, 2, 3, 3, 4]
    assert ranks.by_energy(np.zeros(4), 0.9) == 1
    costs = [10 + 3 * rank for rank in range(1, 21)]
    for limit in (5, 13, 14, 40, 70, 100):
        wanted = max((rank for rank, cost in enumerate(costs, 1) if cost <= limit), default=0)
        assert ranks.by_cost(lambda rank: 10 + 3 * rank, limit, 20) == wanted
        damage = next((rank for rank in range(1, 21) if 100 / rank <= limit), 21)
        assert ranks.by_damage(lambda rank: 100 / rank, limit, 20) == damage


def test_measured_damage_holds_where_it_does_not_fall_evenly():
    random = np.random.default_rng(0)
    for guess in (1, 2, 7, 20, 21, 30):
        for limit in (0.0, 0.1, 0.3, 0.9):
            damages, tried = random.random(21), []

            def damage(rank, damages=damages, tried=tried):
                tried.append(rank)
                return damages[rank]

            found = ranks.by_guess(damage, limit, guess, 20)
            assert min(tried) >= min(guess, 20)
            assert len(tried) <= 9  # twice log2 of the ranks there are
            if found <= 20:
                assert damages[found] <= limit
                assert found in tried
            else:
                assert damages[20] > limit
            assert ranks.by_guess(lambda rank: 100 / rank, 100 / 13, guess, 20) == max(13, min(guess, 20))
    assert ranks.by_guess(lambda rank: 0.0, 0.5, 1, 0) == 1  # no rank saves anything


def product(candidates, ranks):
    return np.prod([one.energies[: ranks[name]].sum() / one.energies.sum() for name, one in candidates.items()])


def test_dear_ranks_are_dropped_before_cheap_ones():
    """Of layers with the same energies the one whose ranks cost ten times more gives ranks first."""
    energies = np.array([8.0, 4.0, 2.0, 1.0])
    layers = {"cheap": ranks.RankCandidate(energies, 1.0, 1e9), "dear": ranks.RankCandidate(energies, 10.0, 1e9)}
    assert ranks.by_product(layers, 34.0) == {"cheap": 4, "dear": 3}
    assert ranks.by_product(layers, 24.0) == {"cheap": 4, "dear": 2}
    random, kept = np.random.default_rng(10), []
    for _ in range(20):
        candidates = {
            name: ranks.RankCandidate(np.sort(random.exponential(1, 5))[::-1], unit, 1e9)
            for name, unit in (("a", 1.0), ("b", 4.0), ("c", 16.0))
        }
        budget = random.integers(30, 90)
        tries = [dict(zip("abc", choice, strict=True)) for choice in itertools.product(range(1, 6), repeat=3)]
        affordable = [
            choice for choice in tries if sum(candidates[name].unit * rank for name, rank in choice.items()) <= budget
        ]
        best = max(product(candidates, choice) for choice in affordable)
        kept.append(product(candidates, ranks.by_product(candidates, budget)) / best)
    assert np.mean(kept) > 0.94  # a greedy choice; without regard to cost it is 0.82


def test_product_greedy_finds_the_best_ranks_of_all():
    random = np.random.default_rng(10)
    for _ in range(20):
        candidates = {
            name: ranks.RankCandidate(np.sort(random.exponential(1, 5))[::-1], 10.0, 45.0) for name in ("a", "b", "c")
        }
        budget = random.integers(40, 120)
        found = ranks.by_product(candidates, budget)
        assert sum(candidates[name].cost(rank) for name, rank in found.items()) <= budget
        tries = [dict(zip("abc", choice, strict=True)) for choice in itertools.product(range(1, 5), repeat=3)]
        tries = [
            choice for choice in tries if sum(candidates[name].unit * rank for name, rank in choice.items()) <= budget
        ]
        best = max(product(candidates, choice) for choice in tries)
        assert product(candidates, found) >= best * (1 - 1e-9)
    with pytest.raises(InputError, match="cannot be met"):
        ranks.by_product(candidates, 20)
