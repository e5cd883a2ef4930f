"""Rotations against Procrustes and enumeration; similarity factorisation against its objective."""

import itertools

import numpy as np
import pytest
import torch
from hashpress.hashnets.solvers.rotation import iterative_quantization, principal_axes, random_rotation
from hashpress.hashnets.solvers.similarity import distance, factorise


def normal(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).float()


def test_rotations_are_orthogonal_and_depend_on_the_seed_alone():
    first, again, other = (random_rotation(7, seed) for seed in (1, 1, 2))
    torch.testing.assert_close(first @ first.T, torch.eye(7))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_principal_axes_are_eigenvectors_of_the_covariance_largest_first():
    features = normal(200, 6) @ torch.diag(torch.tensor([1.0, 5, 2, 0.1, 3, 0.5])) + 3
    axes, mean = principal_axes(features, 3)
    covariance = np.cov(features.numpy().T)
    values = np.linalg.eigvalsh(covariance)[::-1][:3]
    np.testing.assert_allclose(covariance @ axes.numpy(), axes.numpy() * values, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(mean, features.mean(0))


def test_no_round_of_itq_raises_the_quantization_error():
    values = normal(300, 5)
    values -= values.mean(0)

    def error(rotation):
        turned = values @ rotation
        return float((turned - torch.where(turned >= 0, 1.0, -1.0)).square().sum())

    errors = [error(iterative_quantization(values, 3, rounds=rounds)) for rounds in range(12)]
    assert all(after <= before + 1e-3 for before, after in itertools.pairwise(errors))
    assert errors[-1] < 0.97 * errors[0]
    rotation = iterative_quantization(values, 3)
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(5), atol=1e-5, rtol=0)


def test_factorised_codes_have_the_inner_products_of_the_classes():
    labels = np.array([0, 1, 2, 0, 1, 2, 0])
    similar = labels[:, None] == labels
    values = [distance(factorise(similar, 8, 0, sweeps=sweeps), similar) for sweeps in range(6)]
    assert all(after <= before * (1 + 1e-5) for before, after in itertools.pairwise(values))
    codes = factorise(similar, 8, 0)
    assert np.abs(codes).max() <= 1
    products = np.where(codes >= 0, 1, -1) @ np.where(codes >= 0, 1, -1).T
    assert products[similar].min() > products[~similar].max()


@pytest.mark.parametrize("seed", range(4))
def test_the_last_codes_are_stationary_for_every_single_value(seed):
    similar = np.random.default_rng(seed).random((5, 5)) < 0.5
    similar |= similar.T | np.eye(5, dtype=bool)
    codes = factorise(similar, 2, seed, sweeps=200)
    best = distance(codes, similar)
    for row, bit, step in itertools.product(range(5), range(2), (-1e-2, 1e-2)):
        other = codes.copy()
        other[row, bit] = np.clip(other[row, bit] + step, -1, 1)
        assert distance(other, similar) >= best - 2e-3
