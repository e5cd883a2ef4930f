import dataclasses

import numpy as np
import pytest
import torch
from hashpress.compress.base import Context
from hashpress.compress.factorize.lowrank import LowRank
from hashpress.compress.factorize.rebuild import Sample, rebuild_layer, targets_of
from hashpress.compress.factorize.tensors import ranks
from hashpress.compress.fold import Fold
from hashpress.compress.observe import sampling
from hashpress.compress.observe.activations import sampled_activations
from hashpress.compress.observe.followers import followers
from hashpress.compress.observe.macs import count, count_net
from hashpress.compress.observe.moments import Moments, activation_moments, patch_moments
from hashpress.compress.observe.sampling import choose
from hashpress.compress.passes import PASSES
from hashpress.core.data import load_data
from hashpress.core.errors import InputError, RecipeError
from hashpress.core.inputs import ImageInput
from hashpress.core.model import HashModel
from hashpress.hashnets.build import build, default_arch
from hashpress.hashnets.retrieval.codes import outputs
from hashpress.modelfile.edits import rebuild
from hashpress.modelfile.file import load, save
from hashpress.modelfile.layers.factored import Factored, chain
from torch import nn
from torch.nn import functional

KINDS = [("linear", False), ("linear", True), ("nonlinear", False), ("nonlinear", True)]


@pytest.fixture(scope="module")
def digits():
    return load_data("digits?limit=400")


def made(encoder, digits, **options):
    arch = default_arch(encoder, 16, ImageInput((1, 8, 8), digits.mean, digits.std), **options)
    net, generator = build(arch, seed=2).eval(), torch.Generator().manual_seed(1)
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:  # new nets start without any
            layer.bias.data.normal_(0, 0.3, generator=generator)
    return HashModel(net, arch)


@pytest.fixture(scope="module")
def small(digits):
    return made("smallconv", digits, widths=[12, 16, 24, 40])


@pytest.fixture(scope="module")
def residual(digits):
    model = made("resnet20", digits, widths=[6, 10, 14])
    generator = torch.Generator().manual_seed(0)
    for layer in model.net.modules():
        if isinstance(layer, nn.BatchNorm2d):  # a net whose branches are worth something
            layer.running_var.uniform_(0.5, 2, generator=generator)
            layer.bias.data.uniform_(-0.3, 0.3, generator=generator)
    return Fold()(model)


def test_responses_are_what_layers_give_at_one_set_of_places(small, digits, monkeypatch):
    monkeypatch.setattr(sampling, "BATCH", 5)
    pixels = choose(digits, 12, seed=4)[:]
    found = sampled_activations(small, pixels, ["encoder.conv2", "encoder.conv3", "encoder.fc1"], places=3)
    with torch.no_grad():
        images = small.arch.input.normalise(pixels)
        encoder = small.net.encoder
        first = encoder.conv2(functional.relu(encoder.pool1(encoder.conv1(images))))
    rows = found.outputs["encoder.conv2"].reshape(12, 3, 16)
    flat = first.flatten(2).transpose(1, 2).numpy()
    for image in range(12):
        for row in rows[image]:
            assert np.isclose(flat[image], row, atol=1e-5).all(axis=1).any()
    assert found.outputs["encoder.fc1"].shape == (12, 40)
    again = sampled_activations(small, pixels, ["encoder.conv2"], places=3)
    np.testing.assert_array_equal(again.outputs["encoder.conv2"], found.outputs["encoder.conv2"])
    assert len(np.unique(choose(digits, 10_000)[:].reshape(len(digits.train), -1), axis=0)) > 300
    with pytest.raises(InputError, match="no sum was seen"):
        sampled_activations(small, pixels, [], sums=["encoder.conv2"])


def test_few_rows_have_the_variances_of_their_covariance():
    rows = np.random.default_rng(0).normal(2, 1, (5, 12)) @ np.diag(np.arange(12))
    moments = Moments(12)
    moments.add(rows[:2])
    moments.add(rows[2:])
    wanted = np.linalg.eigvalsh(np.cov(rows.T, bias=True))[::-1]
    np.testing.assert_allclose(np.linalg.eigvalsh(moments.products)[::-1], wanted[:5], atol=1e-9)
    np.testing.assert_allclose(moments.covariance, np.cov(rows.T, bias=True), atol=1e-9)
    assert moments.products is None  # they were added up
    moments.add(rows)
    np.testing.assert_allclose(moments.covariance, np.cov(rows.T, bias=True), atol=1e-9)


def test_moments_in_portions_are_those_of_all_rows():
    rows = np.random.default_rng(0).standard_normal((500, 6)) * 0.01 + 1000  # cancels unless centred
    moments = Moments(6)
    for start in range(0, 500, 77):
        moments.add(rows[start : start + 77])
    np.testing.assert_allclose(moments.mean, rows.mean(axis=0))
    np.testing.assert_allclose(moments.covariance, np.cov(rows.T, bias=True), rtol=1e-8, atol=1e-14)


@pytest.mark.parametrize(
    "options", [{"padding": "same"}, {"padding": 1, "stride": 2}, {"groups": 2, "dilation": (1, 2)}]
)
@pytest.mark.filterwarnings("ignore:Using padding=.same. with even kernel")
def test_patch_moments_explain_the_responses(options, digits):
    layer = nn.Conv2d(4, 6, (3, 2), **options)
    net = nn.Sequential(nn.Conv2d(1, 4, 1), layer, nn.Flatten())
    model = HashModel(net, dataclasses.replace(default_arch("lenet5", 16), input=ImageInput((1, 8, 8), (0.5,), (0.3,))))
    pixels = choose(digits, 40)[:]
    with torch.no_grad():
        given = layer(net[0](model.arch.input.normalise(pixels))).flatten(2).double()
    parts = patch_moments(model, pixels, "1", places=given.shape[2])  # all of them
    weights = layer.weight.detach().double().chunk(len(parts))
    biases = layer.bias.detach().double().chunk(len(parts))
    mean = np.concatenate(
        [w.flatten(1).numpy() @ part.mean + b.numpy() for w, part, b in zip(weights, parts, biases, strict=True)]
    )
    np.testing.assert_allclose(mean, given.mean((0, 2)).numpy(), atol=1e-6)
    variance = [
        np.diag(w.flatten(1).numpy() @ part.covariance @ w.flatten(1).numpy().T)
        for w, part in zip(weights, parts, strict=True)
    ]
    np.testing.assert_allclose(np.concatenate(variance), given.var((0, 2), correction=0).numpy(), rtol=1e-5)
    one = patch_moments(model, pixels, "1", channels=True)
    assert one[0].covariance.shape == (4 // layer.groups, 4 // layer.groups)


def test_followers_are_found_through_pooling_and_in_residual_blocks(small, residual, digits):
    pixels = digits.train.pixels
    assert followers(small, pixels) == {
        "encoder.conv1": "relu", "encoder.conv2": "relu", "encoder.conv3": "relu", "encoder.fc1": "relu", "head": "none",
    }  # fmt: skip
    found = followers(residual, pixels)
    assert {found[path] for path in found if path.endswith("conv2")} == {"sum"}
    assert {found[path] for path in found if path.endswith("conv1")} == {"relu"}


@pytest.mark.parametrize(
    "options", [{"stride": 2, "padding": (1, 2)}, {"groups": 2, "dilation": 2}, {"padding": "same"}]
)
@pytest.mark.parametrize("form", ["lowrank", "lowrank3d"])
def test_full_rank_chain_is_the_layer(options, form, digits):
    torch.manual_seed(1)
    layer = nn.Conv2d(4, 6, 3, **options)
    net = nn.Sequential(nn.Conv2d(1, 4, 1), layer, nn.Flatten())
    model = HashModel(
        net.eval(), dataclasses.replace(default_arch("lenet5", 16), input=ImageInput((1, 8, 8), (0.5,), (0.3,)))
    )
    copy = dataclasses.replace(model, net=model.copy_net())
    width = 6 // layer.groups
    edit = Factored(
        "1", form, (width,) if form == "lowrank" else (min(3 * width, 12 // layer.groups), width), bias=True
    )
    sample = Sample(choose(digits, 100), 10, 0, asymmetric=True)
    assert rebuild_layer(model, copy, edit, "linear", "none", sample) < 1e-6
    images = model.arch.input.normalise(digits.queries.pixels[:20])
    torch.testing.assert_close(copy.net(images), net(images), atol=2e-4, rtol=1e-3)
    filters = dataclasses.replace(model, net=model.copy_net())
    rebuild_layer(model, filters, edit, "filter", "none", None)
    torch.testing.assert_close(filters.net(images), net(images), atol=2e-4, rtol=1e-3)
    assert (
        count_net(copy.net, (1, 8, 8))["1.0"].macs
        == count_net(nn.Sequential(net[0], chain(layer, form, edit.ranks, bias=True)), (1, 8, 8))["1.0"].macs
    )


def test_residual_target_is_the_sum_less_the_new_shortcut(residual, digits):
    """With the branch's own layer exact, the chain has to give back what the broken shortcut lost."""
    pixels = choose(digits, 50)[:]
    current = dataclasses.replace(residual, net=residual.copy_net())
    with torch.no_grad():
        current.net.encoder.conv1.weight.mul_(0.9)
    path = "encoder.layer1.0.conv2"
    rows = targets_of(residual, current, path, "sum", Sample(pixels, 5, 0, asymmetric=True))
    whole = sampled_activations(residual, pixels, [path], sums=[path], places=5)
    block, images = residual.net.encoder.layer1[0], residual.arch.input.normalise(pixels)
    with torch.no_grad():
        start = functional.relu(residual.net.encoder.conv1(images))
        branch = block.conv2(functional.relu(block.conv1(start)))
        other = functional.relu(current.net.encoder.conv1(images))
    lookup = {
        tuple(np.round(row, 4)): (y + s - o)
        for row, y, s, o in zip(
            *(value.flatten(2).transpose(1, 2).reshape(-1, 6).numpy() for value in (branch, branch, start, other)),
            strict=True,
        )
    }
    matched = [
        np.allclose(lookup[key], target, atol=1e-4)
        for row, target in zip(whole.outputs[path], rows.targets, strict=True)
        if (key := tuple(np.round(row, 4))) in lookup
    ]
    assert len(matched) > 100
    assert np.mean(matched) > 0.97  # the rest are rows that occur twice


@pytest.mark.parametrize(
    "settings",
    [
        {"speedup": 2.0},
        {"speedup": 2.0, "solver": "linear", "asymmetric": False},
        {"speedup": 2.0, "three_d": True},
        {"speedup": 1.7, "solver": "filter"},
        {"speedup": 1.7, "solver": "filter", "three_d": True},
        {"energy": 0.9, "solver": "linear"},
        {"ranks": {"conv": 4, "encoder.fc1": 9}},
    ],
)
def test_pass_meets_its_target_and_its_file_is_the_same_model(settings, small, digits, tmp_path):
    before = {name: value.clone() for name, value in small.net.state_dict().items()}
    work = LowRank(images=100, **settings)
    plan, cut = work.decide(small, Context(digits)).data, work(small, digits)
    assert list(plan["layers"]) == [edit.layer for edit in cut.edits]
    assert plan["skipped"]["head"] == plan["skipped"]["encoder.conv1"] == "skipped by the settings"
    after = count(cut).by_path
    for path, decision in plan["layers"].items():
        assert decision["macs"][1] == sum(layer.macs for name, layer in after.items() if name.startswith(path + "."))
    if "speedup" in settings:
        assert settings["speedup"] <= count(small).macs / count(cut).macs < settings["speedup"] * 1.15
    if settings.get("solver") != "filter":
        assert all(0 < share < 1 for share in cut.history[-1].after["lost"].values())
    for name, value in small.net.state_dict().items():
        assert torch.equal(value, before[name])
    assert {name: value.shape for name, value in rebuild(cut.arch, cut.edits).state_dict().items()} == {
        name: value.shape for name, value in cut.net.state_dict().items()
    }
    save(cut, tmp_path / "a")
    save(work(small, digits), tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    np.testing.assert_array_equal(
        outputs(load(tmp_path / "a"), digits.queries.pixels), outputs(cut, digits.queries.pixels)
    )


@pytest.mark.slow
def test_the_papers_ordering_without_training(small, residual, digits):
    for model in (small, residual):
        truth = outputs(model, digits.queries.pixels)

        def missed(solver, asymmetric=True, model=model, truth=truth):
            cut = LowRank(speedup=1.8, solver=solver, asymmetric=asymmetric)(model, digits)
            return float(np.linalg.norm(outputs(cut, digits.queries.pixels) - truth))

        linear, asymmetric, symmetric, best = (missed(*kind) for kind in KINDS)
        assert missed("filter") > 1.5 * linear
        assert linear > 1.1 * symmetric  # the solver alone
        assert linear > asymmetric > 1.01 * best
        assert linear > 1.05 * best


def test_ranks_answer_the_papers_problem(small, digits):
    plan = LowRank(speedup=2.0, solver="linear", images=100).decide(small, Context(digits)).data["layers"]
    costs = count(small)
    moments = activation_moments(small, choose(digits, 100), [*plan])
    candidates = {
        path: ranks.RankCandidate(
            np.linalg.eigvalsh(moments[path].covariance)[::-1],
            decision["macs"][1] / decision["ranks"][0],
            costs[path].macs,
        )
        for path, decision in plan.items()
    }
    rest = costs.macs - sum(costs[path].macs for path in plan)
    best = ranks.by_product(candidates, costs.macs / 2 - rest)
    assert {path: decision["ranks"][0] for path, decision in plan.items()} == best


def test_norms_have_to_be_folded(digits):
    with pytest.raises(RecipeError, match="fold batch norms first"):
        LowRank(speedup=2.0).decide(made("resnet20", digits), Context(digits))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "exactly one of"),
        ({"speedup": 2.0, "energy": 0.5}, "found speedup, energy"),
        ({"speedup": 0.5}, "at least 1"),
        ({"energy": 2.0}, "at most 1"),
        ({"ranks": 0}, "1 to 65535"),
        ({"speedup": 2.0, "solver": "quadratic"}, "unknown solver"),
        ({"energy": 0.5, "three_d": True}, "give speedup"),
        ({"speedup": 2.0, "images": 0}, "images must be"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(RecipeError, match=message):
        LowRank(**settings)


def test_what_is_out_of_reach_or_missing_is_said(small, digits):
    with pytest.raises(RecipeError, match="out of reach"):
        LowRank(speedup=1000.0, images=20).decide(small, Context(digits))
    with pytest.raises(RecipeError, match="out of reach"):
        LowRank(speedup=60.0, images=20, three_d=True).decide(small, Context(digits))
    with pytest.raises(InputError, match="--data"):
        LowRank(speedup=2.0)(small)
    assert LowRank(speedup=1.0, images=20)(small, digits).edits == ()
    assert PASSES["lowrank"] is LowRank
