"""Clusters, codebooks and importance against closed forms, loops and the Jacobian."""

from __future__ import annotations

import kmeans1d
import numpy as np
import pytest
import torch
from hashpress.compress.codebooks import kmeans
from hashpress.compress.codebooks.straight_through import StraightThroughCodebook, fit_budget
from hashpress.compress.observe.importance import output_energy
from hashpress.core.inputs import ImageInput
from hashpress.hashnets.build import default_arch, untrained
from hashpress.modelfile.layers.shared import Lookup
from hashpress.modelfile.layers.shared import SharedWeight as SharedForm


def test_the_gradient_of_a_codebook_is_the_sum_over_its_cluster() -> None:
    torch.manual_seed(0)
    indices = torch.randint(0, 5, (6, 7), dtype=torch.uint8)
    codebook = torch.randn(5, dtype=torch.float64, requires_grad=True)
    seed = torch.randn(6, 7, dtype=torch.float64)
    (Lookup.apply(codebook, indices) * seed).sum().backward()
    wanted = [0.0] + [float(seed[indices == entry].sum()) for entry in range(1, 5)]
    np.testing.assert_allclose(codebook.grad.numpy(), wanted, rtol=1e-12)
    form = SharedForm((6, 7), 5, scaled=True)
    form.codebook.data.copy_(torch.arange(5.0))
    form.scale.data.copy_(torch.arange(6.0))
    form.indices.copy_(indices)
    np.testing.assert_array_equal(form().detach().numpy(), indices.numpy() * np.arange(6.0, dtype=np.float32)[:, None])


def test_training_passes_straight_through_the_codebook() -> None:
    weight = torch.randn(4, 50, generator=torch.Generator().manual_seed(0)).requires_grad_()
    codebook = StraightThroughCodebook(weight.detach(), np.array([1.0, 2, 3, 4]), 8, 1.0, 0.05)
    shared = codebook(weight)
    seed = torch.arange(200.0).view(4, 50)
    (shared * seed).sum().backward()
    torch.testing.assert_close(weight.grad, seed)
    centres, indices = codebook.final_codebook(weight.detach())
    wanted = centres[indices].reshape(4, 50) * np.array([1.0, 2, 3, 4])[:, None]
    np.testing.assert_allclose(shared.detach().numpy(), wanted, rtol=1e-5, atol=1e-6)
    assert centres[0] == 0
    assert len(centres) <= 10
    unit = weight.detach().numpy() / np.array([1.0, 2, 3, 4])[:, None]
    assert np.mean((unit - centres[indices].reshape(4, 50)) ** 2) < 0.05


def test_borders_follow_the_price_and_a_budget_finds_it() -> None:
    weights = [torch.randn(30, 50, generator=torch.Generator().manual_seed(seed)) for seed in range(2)]
    latents = [
        StraightThroughCodebook(weight, None, 32, moved, 0.01)
        for weight, moved in zip(weights, (1.0, 4.0), strict=True)
    ]
    pairs = list(zip(latents, weights, strict=True))

    def coded() -> list[float]:
        counts = [np.bincount(codebook.places(weight).numpy().reshape(-1)) for codebook, weight in pairs]
        return [-sum(n * np.log2(n / 1500) for n in count if n) for count in counts]

    sizes = []
    for price in (0.001, 0.1, 1.0):
        assert fit_budget(pairs, price, None) == price
        assert sum(codebook.set_price(weight, price) for codebook, weight in pairs) == pytest.approx(
            sum(coded()), rel=0.02
        )
        sizes.append(coded())
    assert all(np.diff(sizes, axis=0).reshape(-1) < 0)
    assert sizes[1][0] < sizes[1][1], "where errors move more, more bits pay"
    price = fit_budget(pairs, 0.01, 4000.0)
    assert 3400 < sum(coded()) <= 4000, "sizes jump where a value falls out of use"
    assert 0.001 < price < 1


def test_kmeans_against_the_exact_optimum_and_a_loop() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(-1, 0.1, 300), rng.normal(0.5, 0.3, 500)])
    best = kmeans.kmeans(values, 6, "optimal", 0)
    exact = kmeans1d.cluster(values, 6)
    np.testing.assert_allclose(best, exact.centroids)
    np.testing.assert_array_equal(kmeans.nearest(values, best), exact.clusters)
    lowest = float(np.mean((values - best[kmeans.nearest(values, best)]) ** 2))
    for start in kmeans.STARTS:
        centres = kmeans.kmeans(values, 6, start, 1)
        labels = np.abs(values[:, None] - centres).argmin(1)
        np.testing.assert_array_equal(kmeans.nearest(values, centres), labels)
        for place in range(len(centres)):  # a fixed point of Lloyd's iteration
            assert centres[place] == pytest.approx(values[labels == place].mean(), abs=1e-9)
        assert float(np.mean((values - centres[labels]) ** 2)) >= lowest - 1e-12


def test_priced_clusters_reach_the_theory_of_high_rates() -> None:
    """For a normal source the error of entropy-coded scalar quantization is pi e / 6 times 2^(-2 bits) (Gish & Pierce 1968)."""
    values = np.random.default_rng(0).normal(size=40_000)
    bits_before = 99.0
    for price in (0.005, 0.02, 0.05):
        centres, indices = kmeans.priced(values, np.ones_like(values), 64, price)
        counts = np.bincount(indices)
        bits = float(-(counts * np.log2(counts / len(values))).sum() / len(values))
        error = float(np.mean((values - centres[indices]) ** 2))
        assert error == pytest.approx(np.pi * np.e / 6 * 2 ** (-2 * bits), rel=0.06)
        assert centres[0] == 0
        assert bits < bits_before
        bits_before = bits
    assert np.mean(kmeans.priced(values, np.ones_like(values), 64, 0.5)[1] == 0) > 0.6


@pytest.mark.slow
def test_importance_against_the_jacobian() -> None:
    torch.manual_seed(0)
    arch = default_arch("lenet300", 3, ImageInput((1, 2, 2), (0.5,), (0.3,)), widths=(4, 3))
    model = untrained(arch, seed=1)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 1, 2, 2), dtype=np.uint8)
    images = arch.input.normalise(pixels)
    weight = model.net.encoder.fc2.weight.detach()

    def given(values: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(model.net, {"encoder.fc2.weight": values}, images)

    jacobian = torch.autograd.functional.jacobian(given, weight)  # (N, bits, O, I)
    wanted = (jacobian.square().sum((0, 1)) / given(weight).square().sum()).detach()
    found = output_energy(model, pixels, ["encoder.fc2"], batches=6000, batch=8)["encoder.fc2"]
    assert np.corrcoef(found.reshape(-1), wanted.numpy().reshape(-1))[0, 1] > 0.95
    assert found.sum() == pytest.approx(float(wanted.sum()), rel=0.15)
