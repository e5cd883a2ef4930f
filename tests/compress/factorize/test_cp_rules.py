"""What the rules and corrections of ``cp`` promise, measured again on the networks that it returns."""

import dataclasses

import numpy as np
import pytest
import torch
from hashpress.compress.base import Context
from hashpress.compress.factorize.cp import Cp
from hashpress.compress.factorize.tensors import epc
from hashpress.compress.factorize.tensors.decompose import Method, decompose
from hashpress.compress.observe.macs import count
from hashpress.compress.observe.sampling import choose
from hashpress.core.data import load_data
from hashpress.core.errors import RecipeError
from hashpress.core.inputs import ImageInput
from hashpress.core.model import HashModel
from hashpress.hashnets.build import default_arch, untrained
from hashpress.hashnets.retrieval.codes import outputs
from hashpress.modelfile.layers.factored import group_kernels
from tensorly import cp_to_tensor
from torch import nn
from torch.nn import functional


@pytest.fixture(scope="module")
def digits():
    return load_data("digits?limit=200")


@pytest.fixture(scope="module")
def model(digits):
    arch = default_arch("smallconv", 16, ImageInput((1, 8, 8), digits.mean, digits.std), widths=[8, 12, 16, 20])
    return untrained(arch, seed=1)


def around(*layers):
    """Return a model of digits around some layers, for which no architecture is there."""
    arch = dataclasses.replace(default_arch("lenet5", 16), input=ImageInput((1, 8, 8), (0.5,), (0.3,)))
    return HashModel(nn.Sequential(*layers, nn.Flatten()).eval(), arch)


def with_kernel(kernel, **options):
    """Return a model whose layer ``1`` has this kernel."""
    layer = nn.Conv2d(kernel.shape[1], kernel.shape[0], kernel.shape[2:], padding="same", **options)
    layer.weight.data.copy_(torch.from_numpy(kernel))
    return around(nn.Conv2d(1, kernel.shape[1], 1), layer)


def terms(chain):
    """Return kernel and norms of the rank-1 terms of a three-layer chain."""
    first, middle, last = (layer.weight.detach().double().numpy() for layer in chain)
    kernel = np.einsum("tr,rhw,rs->tshw", last[:, :, 0, 0], middle[:, 0], first[:, :, 0, 0])
    sides = [
        np.linalg.norm(rows.reshape(len(rows), -1), axis=1) for rows in (first, middle, last.transpose(1, 0, 2, 3))
    ]
    return kernel, np.prod(sides, axis=0)


@pytest.mark.parametrize(("order", "path"), [(3, "encoder.conv2"), (4, "encoder.conv3"), ("tucker", "encoder.conv2")])
@pytest.mark.slow
def test_flips_hold_for_the_layer_that_is_put_in(order, path, model, digits):
    """Quick fits flip other bits than those of the pass: the ranks that they chose here flip up to 0.24."""
    decision = (
        Cp(order=order, flips={path: 0.1}, images=60, sweeps=40).decide(model, Context(digits)).data["layers"][path]
    )
    rank = decision["ranks"] if order == "tucker" else decision["ranks"][0]
    small = Cp(order=order, rank={path: rank}, sweeps=40)(model, digits)
    assert [edit.layer for edit in small.edits] == [path]
    pixels = choose(digits, 60)
    flipped = np.mean((outputs(small, pixels) >= 0) != (outputs(model, pixels) >= 0))
    assert decision["flips"] == pytest.approx(flipped, abs=1e-6)
    assert flipped <= 0.1
    assert decision["macs"][1] < decision["macs"][0]


def test_flips_that_no_rank_keeps_leave_the_layer(model, digits):
    plan = Cp(flips=1e-9, images=60, sweeps=1, fit="greedy").decide(model, Context(digits)).data
    assert plan["layers"] == {}
    assert "breaks the rule" in plan["skipped"]["encoder.conv2"]


def test_tucker_keeps_the_share_of_squares(model):
    plan = Cp(order="tucker", energy=0.6).decide(model, Context()).data["layers"]
    for path, decision in plan.items():
        kernel = group_kernels(model.net.get_submodule(path))[0]
        for mode, rank in enumerate(decision["ranks"]):
            unfolded = np.moveaxis(kernel, mode, 0).reshape(kernel.shape[mode], -1)
            squares = np.linalg.svd(unfolded, compute_uv=False) ** 2
            assert squares[:rank].sum() >= 0.6 * squares.sum() > squares[: rank - 1].sum()


def test_hint_is_a_multiple_of_what_stands_out_of_the_noise():
    random = np.random.default_rng(0)
    core, left, right = (random.standard_normal(shape) for shape in ((4, 3, 3, 3), (30, 4), (20, 3)))
    kernel = np.einsum("tshw,Tt,Ss->TShw", core, left, right)
    planted = with_kernel(kernel + 0.1 * random.standard_normal(kernel.shape))
    for times in (1.0, 2.0):
        ranks = {
            order: Cp(order=order, hint=times, skip=()).decide(planted, Context()).data["layers"]["1"]["ranks"]
            for order in ("tucker", 3)
        }
        assert ranks == {"tucker": [round(4 * times), round(3 * times)], 3: [round(4 * times)]}


@pytest.mark.parametrize("order", [3, 4])
def test_terms_are_made_small_unless_told_otherwise(order):
    kernel = np.random.default_rng(6).standard_normal((16, 16, 3, 3))
    rough, small = (Cp(order=order, rank=24, epc=epc, sweeps=60)(with_kernel(kernel), seed=0) for epc in (False, True))
    errors = [one.history[-1].after["error"]["1"] for one in (rough, small)]
    assert errors[0] < errors[1] <= errors[0] * 1.01 + 1e-5
    largest = [one.history[-1].after["largest_term"]["1"] for one in (rough, small)]
    assert largest[1] < largest[0]
    if order == 3:
        (first, norms), (second, fewer) = (terms(one.net[1]) for one in (rough, small))
        whole = np.linalg.norm(kernel)
        assert [np.linalg.norm(kernel - one) / whole for one in (first, second)] == pytest.approx(errors, abs=1e-5)
        assert np.sum(fewer**2) < np.sum(norms**2) / 2
        assert max(norms) / whole == pytest.approx(largest[0], rel=1e-3)


def test_swollen_fits_are_named():
    """A kernel of border rank 2: the terms of its rank-2 fits cancel."""
    a, b = np.random.default_rng(0).standard_normal((2, 9))
    kernel = sum(np.einsum("i,j,k->ijk", *one) for one in ((a, a, b), (a, b, a), (b, a, a))).reshape(9, 9, 3, 3)
    settings = {"rank": 2, "fit": "nls", "sweeps": 2000}
    swollen = Cp(epc=False, **settings)(with_kernel(kernel))
    _, norms = terms(swollen.net[1])
    assert norms.max() > 10 * np.linalg.norm(kernel)
    assert swollen.history[-1].after["degenerate"] == ["1"]
    quiet = Cp(slack=1.0, **settings)(with_kernel(kernel + 3 * np.random.default_rng(1).standard_normal(kernel.shape)))
    assert "degenerate" not in quiet.history[-1].after


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("fit", ["nls", "als", "greedy"])
@pytest.mark.parametrize(("order", "data"), [(3, False), (4, True)])
def test_kernel_of_zeros_becomes_a_chain_that_gives_zeros(order, data, fit, digits):
    """As a residual norm with a gain of zero leaves it when it is folded."""
    model = with_kernel(np.zeros((6, 8, 3, 3)))
    small = Cp(order=order, rank=2, data=data, images=20, fit=fit)(model, digits)
    assert len(small.edits) == 1
    images = model.arch.input.normalise(digits.queries.pixels)
    with torch.no_grad():
        torch.testing.assert_close(small.net(images), model.net(images), rtol=0, atol=0)
    assert small.history[-1].after["error"] == {"1": 0.0}


@pytest.mark.filterwarnings("error")
def test_correction_ends_at_zeros_and_the_pass_does_not():
    kernel = np.random.default_rng(3).standard_normal((6, 5, 9))
    rough = tuple(np.random.default_rng(4).standard_normal((size, 2)) * 1e-3 for size in kernel.shape)
    for tensor, factors, delta in ((0 * kernel, [0 * one for one in rough], 0.0), (kernel, rough, 40.0)):
        assert not cp_to_tensor((None, epc.correct(tensor, factors, delta))).any()
    noise = kernel.reshape(6, 5, 3, 3)
    part = decompose(noise, "cp3", (1,), Method(slack=1.0))  # twice its error is more than the whole kernel
    assert 0.5 < part.error < 0.99
    with pytest.raises(RecipeError, match="slack must be from 0 to 1, got 1000000"):
        Cp(rank=2, slack=1e6)


@pytest.mark.parametrize("order", [3, "tucker"])
def test_layers_without_bias_get_the_mean_they_lose(order, digits):
    torch.manual_seed(0)
    layer = nn.Conv2d(8, 12, 3, bias=False)
    model = around(nn.Conv2d(1, 8, 3), nn.ReLU(), layer)
    work = Cp(order=order, rank=3 if order == 3 else [3, 3], data=True, images=200, skip=("0",))
    small = work(model, digits)
    assert small.edits[0].bias
    assert work.decide(model, Context(digits)).data["layers"]["2"]["parameters"][1] == sum(
        value.numel() for value in small.net[2].parameters()
    )
    images = model.arch.input.normalise(choose(digits, 200)[:])
    with torch.no_grad():
        given = functional.relu(model.net[0](images))
        wanted, found = layer(given).numpy(), small.net[2](given).numpy()
        patches = functional.unfold(given, 3).double().numpy()  # (N, D, places), all of them
    kernel = small.net[2](torch.zeros(1, 8, 3, 3))  # what is there without input
    bias = kernel.detach().numpy().reshape(-1)
    units = torch.eye(72).reshape(72, 8, 3, 3)
    rows = small.net[2](units).detach().numpy().reshape(72, 12).T - bias[:, None]
    lost = (layer.weight.detach().numpy().reshape(12, 72) - rows) @ patches.mean(axis=(0, 2))
    assert np.linalg.norm(bias - lost) < 0.1 * np.linalg.norm(lost)  # the pass looks at a sample of places
    gap = np.linalg.norm((found - wanted).mean(axis=(0, 2, 3)))
    assert gap < 0.1 * np.linalg.norm((found - wanted - bias[:, None, None]).mean(axis=(0, 2, 3)))
    assert not Cp(order=order, rank=work.rank, skip=("0",))(model).edits[0].bias


def test_weights_in_common_leave_the_input_alone(digits):
    one, other = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
    other.weight = one.weight
    model = around(nn.Conv2d(1, 6, 3), one, nn.ReLU(), other)
    small = Cp(rank={"1": 2}, sweeps=5)(model)
    here = {value.data_ptr() for value in model.net.parameters()}
    assert not here & {value.data_ptr() for value in small.net.parameters()}
    torch.testing.assert_close(small.net[3].weight, one.weight, rtol=0, atol=0)
    assert count(small).macs < count(model).macs
