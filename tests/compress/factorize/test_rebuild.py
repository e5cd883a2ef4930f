"""What ``lowrank`` puts in the place of a layer, beside numpy's least squares and singular values."""

import dataclasses

import numpy as np
import pytest
import torch
from hashpress.compress.base import Context
from hashpress.compress.factorize.lowrank import LowRank
from hashpress.compress.factorize.rebuild import Sample, rebuild_layer
from hashpress.compress.observe.macs import count
from hashpress.compress.observe.sampling import choose
from hashpress.core.data import load_data
from hashpress.core.inputs import ImageInput
from hashpress.core.model import HashModel
from hashpress.hashnets.build import default_arch
from hashpress.modelfile.layers.factored import Factored
from torch import nn

ALL = 99  # places of an image: more than there are


@pytest.fixture(scope="module")
def pixels():
    return choose(load_data("digits?limit=200"), 100)[:]


def around(*layers):
    """Return a model of digits around some layers, for which no architecture is there."""
    arch = dataclasses.replace(default_arch("lenet5", 16), input=ImageInput((1, 8, 8), (0.5,), (0.3,)))
    return HashModel(nn.Sequential(*layers, nn.Flatten()).eval(), arch)


def rebuilt(model, path, form, ranks, solver, follower, sample):
    """Return the network with one layer rebuilt."""
    current = dataclasses.replace(model, net=model.copy_net())
    rebuild_layer(model, current, Factored(path, form, ranks, bias=True), solver, follower, sample)
    return current.net


@pytest.mark.parametrize(("form", "ranks"), [("lowrank", (3,)), ("lowrank3d", (9, 3))])
def test_nonlinear_solver_gives_better_rectified_responses(form, ranks, pixels):
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 12, 3)
    layer.bias.data.fill_(-0.3)  # much is cut off, which the linear objective still wants right
    model = around(nn.Conv2d(1, 6, 3), layer, nn.ReLU())
    sample, images = Sample(pixels, ALL, 0, asymmetric=True), model.arch.input.normalise(pixels)
    missed = {}
    with torch.no_grad():
        for solver in ("linear", "nonlinear"):
            net = rebuilt(model, "1", form, ranks, solver, "relu", sample)
            missed[solver] = float((net(images) - model.net(images)).norm())
    assert missed["nonlinear"] < 0.95 * missed["linear"]


def test_last_layer_of_three_is_the_least_squares_fit_to_the_two_before(pixels):
    torch.manual_seed(0)
    model = around(nn.Conv2d(1, 6, 3), nn.Conv2d(6, 12, 3))
    net = rebuilt(model, "1", "lowrank3d", (4, 5), "linear", "none", Sample(pixels, ALL, 0, asymmetric=True))
    with torch.no_grad():
        given = model.net[0](model.arch.input.normalise(pixels))
        between, got, wanted = (
            maps.transpose(0, 1).flatten(1).T.double().numpy()
            for maps in (net[1][:2](given), net[1](given), model.net[1](given))
        )
    inputs = np.column_stack([between, np.ones(len(between))])
    best = inputs @ np.linalg.lstsq(inputs, wanted, rcond=None)[0]
    assert np.linalg.norm(best - wanted) > 0.05 * np.linalg.norm(wanted)
    assert np.linalg.norm(got - wanted) < 1.001 * np.linalg.norm(best - wanted)


def test_first_two_of_three_are_the_best_split_in_the_inputs_covariance(pixels):
    torch.manual_seed(0)
    model = around(nn.Conv2d(1, 6, 3), nn.Conv2d(6, 12, 3))
    sample = Sample(pixels, ALL, 0, asymmetric=True)
    whole = rebuilt(model, "1", "lowrank", (5,), "linear", "none", sample)[1][0].weight.detach().double().numpy()
    chain = rebuilt(model, "1", "lowrank3d", (4, 5), "linear", "none", sample)[1]
    vertical, horizontal = (chain[place].weight.detach().double().numpy() for place in (0, 1))
    remade = np.einsum("mch,dmw->dchw", vertical[..., 0], horizontal[:, :, 0])
    with torch.no_grad():
        given = model.net[0](model.arch.input.normalise(pixels)).transpose(0, 1).flatten(1).double().numpy()
    seen = np.cov(given, bias=True)
    seen = 0.99 * seen + 0.01 * np.trace(seen) / 6 * np.eye(6)
    values, vectors = np.linalg.eigh(seen)
    half = vectors * np.sqrt(values)  # any root will do
    unfolded = np.einsum("dchw,ca->ahdw", whole, half).reshape(18, 15)
    least = np.sqrt(np.sum(np.linalg.svd(unfolded, compute_uv=False)[4:] ** 2))
    assert least > 0.05 * np.linalg.norm(unfolded)
    lost = np.linalg.norm(np.einsum("dchw,ca->dahw", whole - remade, half))
    assert lost == pytest.approx(least, rel=0.01)


@pytest.mark.parametrize("solver", ["linear", "filter"])
def test_layers_without_bias_get_one_where_there_is_a_mean(solver):
    split = load_data("digits?limit=100")
    model = around(nn.Conv2d(1, 6, 3, bias=False), nn.ReLU(), nn.Conv2d(6, 8, 3, bias=False))
    work = LowRank(ranks=2, solver=solver, images=20, skip=())
    plan, small = work.decide(model, Context(split)).data["layers"], work(model, split)
    assert list(plan) == [edit.layer for edit in small.edits] == ["0", "2"]
    for path, decision in plan.items():
        chain = small.net.get_submodule(path)
        assert decision["parameters"][1] == sum(value.numel() for value in chain.parameters())
        assert (chain[-1].bias is None) == (solver == "filter")
        assert solver == "filter" or chain[-1].bias.any()
    assert count(small).parameters == sum(value.numel() for value in small.net.parameters())


@pytest.mark.parametrize("solver", ["linear", "filter"])
def test_weights_in_common_leave_the_input_alone(solver):
    split = load_data("digits?limit=100")
    one, other = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
    other.weight = one.weight
    model = around(nn.Conv2d(1, 6, 3), one, nn.ReLU(), other)
    before = [value.clone() for value in model.net.parameters()]
    small = LowRank(ranks={"1": 2}, solver=solver, images=20)(model, split)
    torch.testing.assert_close(small.net[3].weight, one.weight, rtol=0, atol=0)
    with torch.no_grad():
        for value in small.net.parameters():
            value.add_(1.0)
    for value, kept in zip(model.net.parameters(), before, strict=True):
        torch.testing.assert_close(value, kept, rtol=0, atol=0)
