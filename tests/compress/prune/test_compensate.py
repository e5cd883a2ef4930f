"""What making up for removed weights rests on: the moment of inputs without bias, falling costs, prices of errors in outputs."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hashpress.compress import obs
from hashpress.compress.base import Context
from hashpress.compress.observe.hooks import first_call
from hashpress.compress.passes import Share
from hashpress.compress.prune import compensate
from hashpress.core.data import load_data
from hashpress.core.data.images import Split
from hashpress.core.inputs import ImageInput
from hashpress.core.model import HashModel
from hashpress.hashnets.build import default_arch, untrained


@pytest.fixture(scope="module")
def split() -> Split:
    return load_data("digits?limit=100")


@torch.no_grad()
@pytest.mark.parametrize("how", ["obs", "exact"])
@pytest.mark.parametrize("biased", [True, False])
def test_only_a_bias_takes_up_the_mean(split: Split, how: str, biased: bool) -> None:
    """The weights that stay are numpy's ridge regression of the old outputs: on centred inputs where there is a bias."""
    arch = default_arch("lenet300", 8, ImageInput.of(split), widths=(30, 12))
    model = HashModel(untrained(arch, seed=1).net, arch)
    layer: Any = model.net.get_submodule("encoder.fc2")
    layer.weight += 0.1  # rows whose outputs have a mean
    if not biased:
        layer.bias = None
    left = copy.deepcopy(layer)
    compensate.pruner_of(model, "encoder.fc2", how, split.train.pixels, 0)(0.4, left)
    inputs = first_call(model.net, "encoder.fc2", arch.input.normalise(split.train.pixels))[0].double().numpy()
    mean = inputs.mean(0)
    assert mean.max() > inputs.std(0).mean()
    seen = inputs - mean if biased else inputs
    damp = np.sqrt(0.01 * (seen**2).sum(0).mean())
    rows = np.concatenate([seen, damp * np.eye(30)])
    for row in range(12):
        whole, made = layer.weight[row].double().numpy(), left.weight[row].double().numpy()
        kept = np.flatnonzero(made)
        wanted = np.linalg.lstsq(rows[:, kept], rows @ whole, rcond=None)[0]
        np.testing.assert_allclose(made[kept], wanted, rtol=1e-3, atol=1e-4)
        if biased:
            moved = float(left.bias[row] - layer.bias[row])
            assert moved == pytest.approx(float((whole - made) @ mean), abs=1e-4)


def test_a_step_that_became_cheap_waits_for_the_one_before_it() -> None:
    """Two inputs that are nearly one: the first row's second weight is worth nothing, but only once the first is gone."""
    generator = torch.Generator().manual_seed(0)
    one = torch.randn(400, 1, generator=generator, dtype=torch.float64)
    X = torch.cat([one + 0.1 * torch.randn(400, 1, generator=generator, dtype=torch.float64), one], 1)
    W = torch.tensor([[1.0, -1.0], [0.05, -0.02]], dtype=torch.float64)
    H = obs.hessian(X)
    order = obs.removals(W, H)
    assert order.costs[1, 0] < order.costs[0, 1] < order.costs[1, 1] < order.costs[0, 0]

    def lost(mask: np.ndarray) -> float:
        total = 0.0
        for weights, kept in zip(W.numpy(), mask, strict=True):
            wanted, columns = X.numpy() @ weights, X.numpy()[:, kept]
            best = np.linalg.lstsq(columns, wanted, rcond=None)[0] if kept.any() else np.zeros(0)
            total += float(((columns @ best - wanted) ** 2).sum())
        return total

    for keep in (2, 3):
        masks = [np.isin(np.arange(4), chosen).reshape(2, 2) for chosen in itertools.combinations(range(4), keep)]
        best = min(masks, key=lost)
        assert np.array_equal(order.kept(keep).numpy(), best)
        assert float(obs.error(W, obs.prune_exact(W, H, keep), H).sum()) == pytest.approx(lost(best), rel=1e-6)


def test_prices_of_errors_are_between_those_of_outputs_and_of_weights(split: Split) -> None:
    """Geometric means of the squared Jacobian and of the weights' inverse square; a whole weight costs 1 on average."""
    arch = default_arch("lenet300", 4, ImageInput.of(split), widths=(10, 6))
    model = untrained(arch, seed=1)
    paths = ["encoder.fc1", "encoder.fc2", "head"]
    with torch.no_grad():
        model.net.encoder.fc1.weight *= 8  # so that the two prices are far apart
        model.net.head.weight *= 0.1
    errors = Share(bits=4, lam=0.1, importance="outputs")._errors(model, paths, Context(split))
    images = arch.input.normalise(split.train.pixels)
    wanted, worth = {}, {}
    for path in paths:
        weight = model.net.get_parameter(f"{path}.weight").detach()

        def given(values: torch.Tensor, path: str = path) -> torch.Tensor:
            return torch.func.functional_call(model.net, {f"{path}.weight": values}, images)

        moved = torch.autograd.functional.jacobian(given, weight).double().square().sum((0, 1)).numpy()
        moved /= float(given(weight).detach().double().square().sum())
        moved = np.maximum(moved, 0.05 * moved.mean())
        squares = weight.double().numpy() ** 2
        wanted[path] = np.sqrt(moved / squares.mean())
        worth[path] = squares
    unit = sum((wanted[path] * worth[path]).sum() for path in paths) / sum(cost.size for cost in wanted.values())
    for path in paths:
        assert errors(path).mean() == pytest.approx(wanted[path].mean() / unit, rel=0.1)
        assert np.corrcoef(errors(path).ravel(), wanted[path].ravel())[0, 1] > 0.9
    average = sum((errors(path) * worth[path]).sum() for path in paths) / sum(cost.size for cost in wanted.values())
    assert average == pytest.approx(1.0, rel=1e-4)
