"""Pruning that makes up for what goes, and densities by sensitivity: trained networks, real digits, solvers of others."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hashpress.compress.base import Context
from hashpress.compress.observe.hooks import first_call
from hashpress.compress.observe.sampling import choose
from hashpress.compress.passes import Finetune, Prune
from hashpress.compress.prune import compensate
from hashpress.compress.prune.densities import allocated, amounts, cost, measured, predicted
from hashpress.core.data import load_data
from hashpress.core.data.images import Pixels, Split
from hashpress.core.errors import InputError, RecipeError
from hashpress.core.inputs import ImageInput
from hashpress.core.layers import get_layer
from hashpress.core.model import HashModel
from hashpress.hashnets.build import default_arch, untrained
from hashpress.hashnets.retrieval.codes import outputs
from small_models import flips
from torch import nn

DATA = "digits?size=16"
LAYERS = ["encoder.conv1", "encoder.conv2", "encoder.fc1", "head"]


def left(model: HashModel, path: str, how: str, pixels: Pixels, density: float) -> Any:
    """Return a copy of a layer with what is left of its weights."""
    layer = copy.deepcopy(get_layer(model.net, path))
    compensate.pruner_of(model, path, how, pixels, 0)(density, layer)
    return layer


@pytest.fixture(scope="module")
def split() -> Split:
    return load_data(DATA)


@pytest.fixture(scope="module")
def model(split: Split) -> HashModel:
    """A small LeNet-5 that knows the digits."""
    spec = ImageInput.of(split)
    arch = default_arch("lenet5", 24, spec, widths=[8, 12, 60])
    start = untrained(arch, seed=1)
    trained = Finetune(epochs=12, lr=0.003, system="dpsh", distill=0)(start, split)
    return HashModel(trained.net, arch)


def share_left(model: HashModel) -> float:
    weights: list[Any] = [get_layer(model.net, path).weight for path in LAYERS]
    return sum(int(w.count_nonzero()) for w in weights) / sum(w.numel() for w in weights)


@torch.no_grad()
def layer_error(model: HashModel, changed: HashModel, path: str, split: Split) -> float:
    """Square error of one layer's outputs on unseen images, over their energy."""
    net = model.copy_net()
    net.load_state_dict(
        net.state_dict() | {k: v for k, v in changed.net.state_dict().items() if k.startswith(f"{path}.")}
    )
    inputs = model.arch.input.normalise(split.queries.pixels)
    wanted, given = first_call(model.net, path, inputs)[1], first_call(net, path, inputs)[1]
    return float((wanted - given).square().sum() / wanted.square().sum())


@pytest.mark.parametrize(("how", "most"), [("obs", 0.6), ("exact", 0.4)])
def test_what_is_left_makes_up_for_what_went(how: str, most: float, model: HashModel, split: Split) -> None:
    plain = Prune(density=0.2)(model)
    made_up = Prune(density=0.2, compensate=how)(model, split)
    assert share_left(made_up) == pytest.approx(share_left(plain), abs=0.01)
    for path in LAYERS:
        alone = Prune(density={path: 0.2}, compensate=how)(model, split)
        assert layer_error(model, alone, path, split) < most * layer_error(model, plain, path, split), path
    assert flips(model, made_up, split) < (most + 0.1) * flips(model, plain, split)


def test_layers_that_would_take_long_go_block_by_block(
    model: HashModel, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {path: tuple(get_layer(model.net, path).weight.flatten(1).shape) for path in LAYERS}
    costs = {path: rows * inputs**3 for path, (rows, inputs) in few.items()}
    most = max(costs, key=costs.__getitem__)
    monkeypatch.setattr(compensate, "LONGEST", costs[most] - 1)
    exact, blocks = (Prune(density=0.3, compensate=how, images=100) for how in ("exact", "obs"))
    reasons = exact.decide(model, Context(split)).data["in_blocks"]
    assert list(reasons) == [most]
    assert reasons[most] == f"{few[most][0]} rows of {few[most][1]} inputs, too many to go weight by weight"
    assert "in_blocks" not in blocks.decide(model, Context(split)).data
    pixels = choose(split, 100, 0)
    for path in costs:
        found = [left(model, path, how, pixels, 0.3).weight for how in ("exact", "obs")]
        assert torch.equal(*found) == (path == most), path


@pytest.mark.parametrize("how", ["none", "obs", "exact"])
def test_what_is_left_depends_on_the_last_density_alone(how: str, model: HashModel, split: Split) -> None:
    pixels = choose(split, 60, 0)
    layer = copy.deepcopy(get_layer(model.net, "encoder.fc1"))
    leave = compensate.pruner_of(model, "encoder.fc1", how, pixels, 0)
    leave(0.1, layer)
    leave(0.8, layer)
    once = left(model, "encoder.fc1", how, pixels, 0.8)
    assert torch.equal(layer.weight, once.weight)
    assert torch.equal(layer.bias, once.bias)


@torch.no_grad()
def test_a_dense_layer_is_nearly_the_least_squares_solution_on_its_mask(model: HashModel, split: Split) -> None:
    pixels = choose(split, 512, 0)[:]
    layer = left(model, "encoder.fc1", "obs", pixels, 0.2)
    weight, bias = layer.weight, layer.bias
    inputs, wanted = (v.double() for v in first_call(model.net, "encoder.fc1", model.arch.input.normalise(pixels)))
    for row in range(0, len(weight), 7):
        kept = torch.nonzero(weight[row]).flatten()
        columns = torch.cat([inputs[:, kept], torch.ones(len(inputs), 1)], dim=1)
        best = torch.linalg.lstsq(columns, wanted[:, row : row + 1], driver="gelsd").solution
        least = (columns @ best)[:, 0] - wanted[:, row]
        got = inputs @ weight[row].double() + bias[row].double() - wanted[:, row]
        cut = inputs[:, kept] @ model.net.get_submodule("encoder.fc1").weight[row, kept].double() - wanted[:, row]
        assert float(got.square().mean()) <= float(least.square().mean()) + 0.02 * float(cut.square().mean())
        assert abs(float(got.mean())) < 1e-4 * float(wanted[:, row].std())


def test_groups_of_a_convolution_have_their_own_inputs(split: Split) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3, groups=2), nn.Flatten(), nn.Linear(864, 16))
    arch = default_arch("lenet5", 16, ImageInput.of(split))
    model = HashModel(net.eval(), arch)
    plain = Prune(density={"2": 0.4})(model)
    made_up = Prune(density={"2": 0.4}, compensate="obs")(model, split)
    assert layer_error(model, made_up, "2", split) < 0.6 * layer_error(model, plain, "2", split)
    net[0].padding_mode = "reflect"
    decision = Prune(density=0.4, compensate="obs").decide(model, Context(split)).data
    assert decision["skipped"] == {"0": "padding 'reflect'"}
    assert list(decision["density"]) == ["2", "4"]
    assert "threshold" not in decision
    left = Prune(density=0.4, compensate="obs")(model, split)
    assert torch.equal(left.net[0].weight, model.net[0].weight)


def test_stages_with_compensation_reach_the_density(model: HashModel, split: Split) -> None:
    item = Prune(density=0.1, compensate="obs", stages=2, finetune={"epochs": 1, "lr": 1e-4}, images=100)
    assert share_left(item(model, split)) == pytest.approx(0.1, abs=0.01)


def test_amounts_reach_below_the_density() -> None:
    points = amounts(0.1)
    assert points == sorted(points, reverse=True)
    assert points[0] < 1
    assert points[-1] == pytest.approx(0.02)
    assert min(amounts(0.0)) > 0


def test_the_allocation_is_the_best_of_all_on_the_grid() -> None:
    """Oracle: every combination of densities, by the rule that 1 - 2f of independent layers multiplies."""
    sizes = {"a": 100, "b": 400, "c": 50}
    points = [0.8, 0.6, 0.4, 0.2]
    curves = {
        "a": list(zip(points, (0.001, 0.01, 0.05, 0.2), strict=True)),
        "b": list(zip(points, (0.0, 0.002, 0.02, 0.1), strict=True)),
        "c": list(zip(points, (0.02, 0.06, 0.15, 0.4), strict=True)),
    }

    def together(chosen: tuple[tuple[float, float], ...]) -> float:
        return (1 - np.prod([1 - 2 * f for _, f in chosen])) / 2

    every = list(itertools.product(*([(1.0, 0.0), *curves[path]] for path in sizes)))
    for chosen in every:
        weights = sum(size * point[0] for size, point in zip(sizes.values(), chosen, strict=True))
        found = allocated(sizes, curves, density=weights / 550)
        assert sum(sizes[path] * value for path, value in found.items()) == pytest.approx(weights)
        assert predicted(sizes, curves, found) <= together(chosen) + 1e-12
        budget = allocated(sizes, curves, flips=together(chosen))
        assert sum(sizes[path] * value for path, value in budget.items()) <= weights + 1e-6


def test_curves_are_flips_of_layers_pruned_alone(model: HashModel, split: Split) -> None:
    pixels = split.train.pixels[:200]
    curves = measured(model, ["encoder.fc1", "head"], [0.5, 0.1], "none", pixels, 0)
    for path in curves:
        for density, found in curves[path]:
            alone = Prune(density={path: density})(model)
            expected = ((outputs(alone, pixels) >= 0) != (outputs(model, pixels) >= 0)).mean()
            assert found == pytest.approx(expected)
    assert cost(0.5) < np.inf


def test_densities_by_sensitivity_flip_fewer_bits_than_one_density(model: HashModel, split: Split) -> None:
    one, spread = (Prune(density=0.3, scope=scope)(model, split) for scope in ("layer", "sensitivity"))
    assert share_left(spread) == pytest.approx(share_left(one), abs=0.01)
    assert flips(model, spread, split) < flips(model, one, split)


@pytest.mark.slow
def test_a_budget_of_flips_is_kept_and_used(model: HashModel, split: Split) -> None:
    sparse, sparser = (Prune(flips=amount, scope="sensitivity", compensate="obs") for amount in (0.02, 0.1))
    for item, amount in ((sparse, 0.02), (sparser, 0.1)):
        assert item.decide(model, Context(split)).data["flips"] == pytest.approx(amount, rel=0.1)
        assert flips(model, item(model, split), split) < 2 * amount + 0.01, "layers together, on unseen images"
    assert share_left(sparser(model, split)) < share_left(sparse(model, split)) < 0.9


def test_without_images_or_with_settings_that_clash(model: HashModel) -> None:
    for item in (Prune(density=0.5, compensate="obs"), Prune(density=0.5, scope="sensitivity")):
        with pytest.raises(InputError, match="needs training images; name a data set with --data"):
            item(model)
    for settings, message in (
        ({"density": 0.5, "compensate": "obc"}, r"unknown compensate 'obc' \(there are: none, obs, exact\)"),
        ({"density": 0.5, "images": 0}, "images must be at least 1"),
        ({"density": 0.5, "flips": 0.1}, "give one of density, q and flips"),
        ({"flips": 0.1}, "flips needs scope 'sensitivity'"),
        ({"flips": 0.5, "scope": "sensitivity"}, r"flips must be in \[0, 0.5\), got 0.5"),
        ({"q": 1.0, "scope": "sensitivity"}, "one density for all layers, or flips"),
    ):
        with pytest.raises(RecipeError, match=message):
            Prune(**settings)


def test_a_layer_of_zeros_has_no_deviation_to_prune_by() -> None:
    """Warnings are errors here: torch's of too few degrees of freedom was one."""
    model = untrained(default_arch("lenet5", 8, ImageInput((1, 16, 16), (0.5,), (0.25,))))
    with torch.no_grad():
        get_layer(model.net, "encoder.fc1").weight.zero_()
    decision = Prune(q=1.0).decide(model, Context()).data
    assert decision["threshold"]["encoder.fc1"] == decision["density"]["encoder.fc1"] == 0.0
    weight = get_layer(model.net, "head").weight.detach().numpy().astype(np.float64)
    wanted = np.mean(np.abs(weight) >= np.sqrt(np.mean((weight - weight.mean()) ** 2)))
    assert decision["density"]["head"] == pytest.approx(wanted, abs=1e-3)
