"""Discrete cyclic descent against exhaustive search; DSDH's codes."""

import itertools

import numpy as np
import pytest
import torch
from hashpress.core.inputs import ImageInput
from hashpress.hashnets.build import default_arch
from hashpress.hashnets.losses.pair import pair_likelihood
from hashpress.hashnets.solvers.discrete import cyclic_descent, ridge
from hashpress.hashnets.systems import SYSTEMS
from hashpress.hashnets.systems.base import Batch

ARCH = default_arch("lenet300", 4, ImageInput((1, 4, 4), (0.0,), (1.0,)))


def objective(codes, linear, weights):
    return float(((codes @ weights) ** 2).sum() - 2 * (codes * linear).sum())


def test_ridge_solves_its_normal_equations():
    generator = torch.Generator().manual_seed(0)
    codes, labels = torch.randn(20, 4, generator=generator).sign(), torch.randn(20, 3, generator=generator)
    weights = ridge(codes, labels, 0.7)
    gradient = codes.T @ (codes @ weights - labels) + 0.7 * weights
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-4, rtol=0)


@pytest.mark.parametrize("seed", range(8))
def test_no_single_bit_can_be_bettered_and_sweeps_never_raise_the_objective(seed):
    generator = torch.Generator().manual_seed(seed)
    weights, linear = torch.randn(5, 3, generator=generator), torch.randn(6, 5, generator=generator)
    start = torch.randn(6, 5, generator=generator).sign()
    values = [objective(cyclic_descent(start, linear, weights, sweeps=n), linear, weights) for n in range(6)]
    assert all(after <= before + 1e-5 for before, after in itertools.pairwise(values))
    codes = cyclic_descent(start, linear, weights, sweeps=100)
    best = objective(codes, linear, weights)
    for row, bit in itertools.product(range(6), range(5)):
        other = codes.clone()
        other[row, bit] *= -1
        assert objective(other, linear, weights) >= best - 1e-5


def test_where_bits_do_not_meet_it_finds_the_best_of_all_codes():
    generator = torch.Generator().manual_seed(1)
    weights, linear = torch.diag(torch.rand(4, generator=generator)), torch.randn(1, 4, generator=generator)
    codes = cyclic_descent(torch.ones(1, 4), linear, weights)
    every = [torch.tensor([row], dtype=torch.float32) for row in itertools.product((-1, 1), repeat=4)]
    assert objective(codes, linear, weights) == pytest.approx(min(objective(c, linear, weights) for c in every))


def test_dsdh_draws_outputs_to_codes_that_were_solved():
    system = SYSTEMS["dsdh"](ARCH, 3, 6, 0, eta=0.5)
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    outputs = torch.from_numpy(np.random.default_rng(0).normal(0, 1, (6, 4))).float().requires_grad_()
    batch = Batch(torch.arange(6), torch.zeros(6, 1), labels)
    system(outputs, batch)
    system.end_epoch()
    codes = system.codes
    assert set(codes.unique().tolist()) == {-1.0, 1.0}
    own = torch.eye(3)[labels]
    weights = ridge(torch.where(outputs.detach() >= 0, 1.0, -1.0), own, 0.1)
    expected = cyclic_descent(
        torch.where(outputs.detach() >= 0, 1.0, -1.0), own @ weights.T + outputs.detach(), weights
    )
    assert torch.equal(codes, expected)
    loss = system(outputs, batch)
    loss.backward()
    pairs = pair_likelihood(outputs.detach(), labels, outputs.detach(), labels, balance=True)
    assert loss.item() == pytest.approx((pairs + 0.5 * (outputs - codes).square().mean()).item(), rel=1e-5)
    draw = outputs.detach().clone().requires_grad_()
    pair_likelihood(draw, labels, outputs.detach(), labels, balance=True).backward()
    torch.testing.assert_close(outputs.grad, draw.grad + 0.5 * 2 * (outputs.detach() - codes) / outputs.numel())
