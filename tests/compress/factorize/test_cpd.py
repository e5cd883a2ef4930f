import tracemalloc

import numpy as np
import pytest
import scipy.linalg
from hashpress.compress.factorize.tensors import algebra, cpd, cpsearch, epc, kruskal
from hashpress.core.errors import InputError
from tensorly.decomposition import parafac


def planted(shape, rank, seed=0):
    random = np.random.default_rng(seed)
    factors = tuple(random.standard_normal((size, rank)) for size in shape)
    return full(factors), factors


def full(factors):
    letters = "abcd"[: len(factors)]
    return np.einsum(",".join(f"{letter}r" for letter in letters) + "->" + letters, *factors)


def swamp(seed=0):
    """A tensor of border rank 2 and rank 3: rank-2 fits come as near as one likes while their terms grow without bound."""
    random = np.random.default_rng(seed)
    a, b = random.standard_normal((2, 6))
    terms = ((a, a, b), (a, b, a), (b, a, a))
    return sum(np.einsum("i,j,k->ijk", *term) for term in terms)


def test_large_kernels_get_fewer_sweeps():
    assert cpd.affordable((64, 64, 9), 64, 200, "nls") == 200
    many, few = (cpd.affordable((512, 512, 9), rank, 200, "nls") for rank in (384, 1500))
    assert 12 <= many < 200
    assert 1 <= few < many < cpd.affordable((512, 512, 9), 384, 200, "als")


def test_a_search_goes_on_from_the_rank_before():
    tensor = planted((9, 8, 7), 6)[0]
    search = cpsearch.Search(tensor)
    assert search.error(6) < 1e-4
    few = search.error(3)
    assert 0.2 < few < 1.02 * cpd.fit(tensor, 3).error  # the smallest terms went, the rest made the best of it
    assert search.error(6) < 0.1 * few  # the new terms find what is left
    assert search.error(7) < 0.1 * few
    assert cpsearch.Search(np.zeros((3, 4, 5))).error(2) == 0
    assert [cpsearch.Search(tensor).error(4) for _ in range(2)] == [cpsearch.Search(tensor).error(4)] * 2


def test_products_against_their_definitions():
    tensor, factors = planted((4, 7, 3, 2), 5)
    np.testing.assert_allclose(algebra.cp_to_tensor((None, factors)), tensor, atol=1e-12)
    np.testing.assert_allclose(algebra.khatri_rao(factors[:2]), scipy.linalg.khatri_rao(*factors[:2]))
    other = np.random.default_rng(1).standard_normal(tensor.shape)
    specs = ("abcd,br,cr,dr->ar", "abcd,ar,cr,dr->br", "abcd,ar,br,dr->cr", "abcd,ar,br,cr->dr")
    for mode, (spec, found) in enumerate(zip(specs, kruskal.mttkrps(other, factors), strict=True)):
        wanted = np.einsum(spec, other, *(factor for at, factor in enumerate(factors) if at != mode))
        np.testing.assert_allclose(found, wanted, atol=1e-11)
        np.testing.assert_allclose(kruskal.mttkrp(other, factors, mode), wanted, atol=1e-11)
    norms = [np.linalg.norm(full([factor[:, [r]] for factor in factors])) for r in range(5)]
    np.testing.assert_allclose(kruskal.term_norms(factors), norms)
    even = kruskal.balanced(factors)
    np.testing.assert_allclose(full(even), tensor, atol=1e-12)
    sides = np.array([np.linalg.norm(factor, axis=0) for factor in even])
    np.testing.assert_allclose(sides, np.broadcast_to(sides[0], sides.shape))


def test_sensitivity_is_the_error_that_noise_makes():
    tensor, factors = planted((5, 4, 3), 3)
    random, scale, total = np.random.default_rng(2), 1e-4, 0.0
    for _ in range(3000):
        noisy = [factor + scale * random.standard_normal(factor.shape) for factor in factors]
        total += np.sum((full(noisy) - tensor) ** 2) / scale**2
    assert kruskal.sensitivity(factors) == pytest.approx(total / 3000, rel=0.03)
    a, b, c = (factor.T @ factor for factor in factors)
    closed = 3 * np.trace(a * b) + 5 * np.trace(b * c) + 4 * np.trace(a * c)
    assert kruskal.sensitivity(factors) == pytest.approx(closed)


@pytest.mark.parametrize("method", ["nls", "als"])
@pytest.mark.parametrize("shape", [(12, 10, 3, 3), (20, 9, 15)])
def test_planted_terms_are_recovered(method, shape):
    tensor, factors = planted(shape, 5)
    found = cpd.fit(tensor, 5, method, sweeps=400)
    assert found.error < 2e-5
    for mode in range(len(shape)):  # unique up to order and scale: every true column has its parallel
        left, right = (m[mode] / np.linalg.norm(m[mode], axis=0) for m in (factors, found.factors))
        np.testing.assert_allclose(np.abs(left.T @ right).max(axis=1), 1, atol=1e-4)


@pytest.mark.parametrize("method", ["nls", "als", "greedy"])
def test_of_a_matrix_the_best_fit_is_known(method):
    matrix = np.random.default_rng(3).standard_normal((14, 9))
    values = np.linalg.svd(matrix, compute_uv=False)
    found = cpd.fit(matrix, 4, method, sweeps=500)
    best = np.sqrt(np.sum(values[4:] ** 2) / np.sum(values**2))
    assert found.error == pytest.approx(best, rel=1e-4)


def test_greedy_has_nothing_left_once_the_rank_is_reached():
    left, right = np.random.default_rng(11).standard_normal((2, 9, 3))
    assert cpd.fit(left @ right.T, 5, "greedy", sweeps=500).error < 1e-6


def test_gauss_newton_system_is_that_of_the_jacobian():
    _, factors = planted((4, 3, 5), 2)
    other = np.random.default_rng(4).standard_normal((4, 3, 5))
    flat = np.concatenate([factor.ravel() for factor in factors])

    def model(values):
        parts = np.split(values, np.cumsum([factor.size for factor in factors])[:-1])
        return full([part.reshape(factor.shape) for part, factor in zip(parts, factors, strict=True)]).ravel()

    steps = np.eye(len(flat)) * 1e-6
    jacobian = np.array([(model(flat + step) - model(flat - step)) / 2e-6 for step in steps]).T
    residual = model(flat) - other.ravel()
    gradient = np.concatenate([part.ravel() for part in cpd._gradient(other, factors)])
    np.testing.assert_allclose(gradient, jacobian.T @ residual, atol=1e-6)
    parts = [np.random.default_rng(mode).standard_normal(factor.shape) for mode, factor in enumerate(factors)]
    applied = cpd._normal_operator(factors, [factor.T @ factor for factor in factors])(parts)
    wanted = jacobian.T @ jacobian @ np.concatenate([part.ravel() for part in parts])
    np.testing.assert_allclose(np.concatenate([part.ravel() for part in applied]), wanted, atol=1e-5)
    assert kruskal.squared_error(other, factors, float(np.vdot(other, other))) == pytest.approx(residual @ residual)


def test_not_worse_than_tensorly_and_better_than_greedy():
    tensor = np.random.default_rng(5).standard_normal((8, 12, 9)).cumsum(axis=1)
    theirs = min(
        kruskal.error(tensor, [factors[0] * weights, *factors[1:]])
        for weights, factors in (
            parafac(tensor, 6, n_iter_max=1000, init="random", random_state=seed, tol=1e-10) for seed in range(3)
        )
    )
    found = {method: cpd.fit(tensor, 6, method, sweeps=500).error for method in cpd.METHODS}
    assert found["nls"] < theirs * 1.01
    assert found["als"] < theirs * 1.01
    assert found["greedy"] > found["nls"] * 1.02


def test_seeds_decide():
    tensor, _ = planted((6, 7, 3, 3), 8)
    first, again, other = (cpd.fit(tensor, 4, "nls", seed=seed, sweeps=20) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first.factors, again.factors, strict=True))
    assert not np.array_equal(first.factors[0], other.factors[0])


def test_degenerate_fits_raise_the_alarm_and_corrected_ones_do_not():
    tensor = swamp()
    free = cpd.nls(tensor, cpd.start(tensor.shape, 2, np.linalg.norm(tensor), (0,)), 300, tol=0)[0]
    assert kruskal.degeneracy(tensor, free) > cpd.BOUND
    delta = max(kruskal.error(tensor, free) * 1.01, 0.05) * np.linalg.norm(tensor)
    small = epc.correct(tensor, free, delta)
    assert np.linalg.norm(tensor - full(small)) <= delta * (1 + 1e-6)
    assert kruskal.degeneracy(tensor, small) < kruskal.degeneracy(tensor, free) / 3
    assert kruskal.sensitivity(small) < kruskal.sensitivity(free) / 3


def test_correction_lowers_norms_at_the_same_error():
    tensor = np.random.default_rng(6).standard_normal((9, 24, 24))
    bad = cpd.fit(tensor, 36, "nls", sweeps=60)
    further = cpd.nls(tensor, bad.factors, 60)[0]
    good = epc.correct(tensor, further, bad.error * np.linalg.norm(tensor))
    assert kruskal.error(tensor, good) == pytest.approx(bad.error, rel=1e-6)
    assert np.sum(kruskal.term_norms(good) ** 2) < np.sum(kruskal.term_norms(bad.factors) ** 2) / 10


def test_ridge_penalty_spends_the_allowed_error_exactly():
    random = np.random.default_rng(7)
    target, basis = random.standard_normal((6, 40)), random.standard_normal((40, 5))
    values, vectors = np.linalg.eigh(basis.T @ basis)
    energy = np.sum((target @ basis @ vectors) ** 2, axis=0)
    least = np.linalg.norm(target - target @ np.linalg.pinv(basis.T) @ basis.T)
    delta = 1.02 * least
    mu = epc.penalty(values, energy, float(np.sum(target**2)), delta)
    ridge = target @ basis @ np.linalg.inv(basis.T @ basis + mu * np.eye(5))
    assert np.linalg.norm(target - ridge @ basis.T) == pytest.approx(delta, rel=1e-8)


def test_memory_stays_near_the_size_of_the_kernel():
    kernel = np.random.default_rng(12).standard_normal((160, 160, 3, 3))  # 1.8 MB
    tracemalloc.start()
    try:
        found = cpd.fit(kernel, 64, "nls", starts=1, sweeps=2)
        epc.correct(kernel, found.factors, found.error * 1.01 * np.linalg.norm(kernel), sweeps=1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 12e6  # products of all modes but one of the 3s would take 40 MB, an SVD start 17 GB


def test_what_cannot_be_done_is_said():
    tensor, factors = planted((4, 4, 4), 2)
    with pytest.raises(InputError, match="rank of at least 1"):
        cpd.fit(tensor, 0)
    with pytest.raises(InputError, match="finite"):
        cpd.fit(tensor * np.nan, 2)
    with pytest.raises(InputError, match="did you mean 'nls'"):
        cpd.fit(tensor, 2, "nlss")
    with pytest.raises(InputError, match="may not exceed"):
        epc.correct(tensor, tuple(0 * factor for factor in factors), 0.1)
    assert cpd.fit(np.zeros((3, 3, 3)), 2, sweeps=5).error == 0
