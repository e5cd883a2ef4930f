import dataclasses

import numpy as np
import pytest
import torch
from hashpress.compress.base import Context
from hashpress.compress.factorize.cp import Cp, replace_layer
from hashpress.compress.factorize.cp_ranks import chain_cost
from hashpress.compress.factorize.tensors import whiten
from hashpress.compress.factorize.tensors.decompose import Method, decompose
from hashpress.compress.observe.activations import sampled_activations
from hashpress.compress.observe.macs import count, count_net
from hashpress.compress.observe.moments import patch_moments
from hashpress.compress.observe.sampling import choose
from hashpress.compress.passes import PASSES
from hashpress.core.data import load_data
from hashpress.core.errors import InputError, ModelFileError, RecipeError
from hashpress.core.inputs import ImageInput
from hashpress.core.model import HashModel
from hashpress.hashnets.build import default_arch, untrained
from hashpress.hashnets.retrieval.codes import outputs
from hashpress.modelfile.edits import edit_from_json, edit_to_json, rebuild
from hashpress.modelfile.file import load, save
from hashpress.modelfile.layers.factored import Factored, chain, fill, group_kernels
from torch import nn
from torch.nn import functional

FAST = Method(fit="als", starts=1, sweeps=20)
SHAPES = [
    {},
    {"stride": (2, 1), "padding": (0, 2)},
    {"padding": (2, 1), "dilation": (1, 2)},
    {"groups": 2, "stride": 2, "padding": 1},
    {"groups": 2, "bias": False},
    {"padding": "same"},
    {"padding": "valid"},
]


@pytest.fixture(scope="module")
def digits():
    return load_data("digits?limit=300")


@pytest.fixture(scope="module")
def model(digits):
    arch = default_arch("smallconv", 16, ImageInput((1, 8, 8), digits.mean, digits.std), widths=[8, 12, 16, 20])
    return untrained(arch, seed=1)


@pytest.mark.parametrize("options", SHAPES)
@pytest.mark.parametrize(("form", "ranks"), [("cp4", (5,)), ("cp3", (5,)), ("tucker2", (3, 2))])
def test_chain_gives_what_the_convolution_with_its_kernel_gives(form, ranks, options):
    torch.manual_seed(0)
    layer = nn.Conv2d(8, 6, (3, 5), **options)
    images = torch.randn(2, 8, 13, 12)
    made = chain(layer, form, ranks, bias=layer.bias is not None)
    parts = [decompose(kernel, form, ranks, FAST) for kernel in group_kernels(layer)]
    bias = None if layer.bias is None else layer.bias.detach().double().numpy()
    fill(made, list(zip(*(part.weights for part in parts), strict=True)), bias)
    kernel = torch.from_numpy(np.concatenate([part.kernel for part in parts])).float()
    wanted = functional.conv2d(images, kernel, layer.bias, layer.stride, layer.padding, layer.dilation, layer.groups)
    torch.testing.assert_close(made(images), wanted, atol=2e-5, rtol=1e-4)
    left = np.linalg.norm(np.concatenate([part.kernel for part in parts]) - layer.weight.detach().numpy())
    assert 0 < left < np.linalg.norm(layer.weight.detach().numpy())
    assert chain_cost(layer, form, ranks, (8, 13, 12)) == count_net(made, (8, 13, 12))
    assert max(part.error for part in parts) < 1


def test_chains_cost_what_the_formulas_say():
    layer = nn.Conv2d(256, 256, 3, padding=1, bias=False)
    assert chain_cost(layer, "cp4", (256,), (256, 10, 10)).parameters == 132_608  # facts 1.1
    assert chain_cost(layer, "cp3", (100,), (256, 10, 10)).macs == 100 * (256 * 100 + 9 * 100 + 100 * 256)
    assert chain_cost(layer, "tucker2", (30, 20), (256, 4, 4)).macs == 16 * (256 * 20 + 9 * 20 * 30 + 30 * 256)
    strided = nn.Conv2d(8, 4, 3, stride=2, padding=1)
    assert chain_cost(strided, "cp4", (5,), (8, 8, 8)).macs == 64 * 8 * 5 + 32 * 15 + 16 * 15 + 16 * 5 * 4


@pytest.mark.parametrize(
    "settings",
    [
        {"order": 4, "share": 0.4},
        {"order": 3, "rank": 12},
        {"order": 3, "rank": {"encoder.conv3": 9}, "fit": "greedy"},
        {"order": "tucker", "energy": 0.7},
        {"order": "tucker", "hint": 4.0, "epc": False},
        {"order": "tucker", "rank": [6, 5]},
        {"order": 3, "energy": 0.6, "fit": "als"},
        {"order": 3, "flips": 0.1, "images": 60},
        {"order": 4, "share": 0.3, "data": True},
    ],
)
def test_pass_multiplies_less_and_its_file_is_the_same_model(settings, model, digits, tmp_path):
    before = {name: value.clone() for name, value in model.net.state_dict().items()}
    work = Cp(sweeps=10, **settings)
    plan = work.decide(model, Context(digits)).data
    small = work(model, digits)
    assert plan["layers"]
    for path, decision in plan["layers"].items():
        assert decision["macs"][1] == sum(
            layer.macs for layer in count(small).layers if layer.path.startswith(path + ".")
        )
        assert decision["macs"][1] < decision["macs"][0]
        assert small.history[-1].after["error"][path] < 1
    assert set(plan["skipped"]) | set(plan["layers"]) == {
        "encoder.conv1",
        "encoder.conv2",
        "encoder.conv3",
        "encoder.fc1",
        "head",
    }
    assert plan["skipped"]["encoder.conv1"] == "skipped by the settings"
    assert isinstance(settings.get("rank"), dict) or "lowrank" in plan["skipped"]["head"]
    assert count(small).macs < count(model).macs
    for name, value in model.net.state_dict().items():
        assert torch.equal(value, before[name])
    empty = rebuild(small.arch, small.edits).state_dict()
    assert {name: value.shape for name, value in empty.items()} == {
        name: value.shape for name, value in small.net.state_dict().items()
    }
    save(small, tmp_path / "a")
    again = load(tmp_path / "a")
    assert again.edits == small.edits
    np.testing.assert_array_equal(outputs(again, digits.queries.pixels), outputs(small, digits.queries.pixels))


def test_two_runs_give_the_same_bytes(model, digits, tmp_path):
    for name in "ab":
        save(Cp(order=4, rank=9, sweeps=10, data=True, images=50)(model, digits, seed=3), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.slow
def test_rules_choose_the_rank_they_promise(model, digits):
    energy = Cp(order=3, energy=0.8).decide(model, Context()).data["layers"]
    for path, decision in energy.items():
        kernel = group_kernels(model.net.get_submodule(path))[0]
        (rank,) = decision["ranks"]
        assert decompose(kernel, "cp3", (rank,), Method(epc=False)).error ** 2 <= 0.2
        assert decompose(kernel, "cp3", (round(0.9 * rank),), Method(epc=False)).error ** 2 > 0.2
    for path, decision in Cp(order=4, share=0.25).decide(model, Context()).data["layers"].items():
        layer, shape = model.net.get_submodule(path), count(model)[path].input
        limit, rank = 0.25 * count(model)[path].parameters, decision["ranks"][0]
        assert decision["parameters"][1] <= limit < chain_cost(layer, "cp4", (rank + 1,), shape).parameters
    strict, loose = (Cp(flips=limit, images=60).decide(model, Context(digits)).data["layers"] for limit in (0.02, 0.2))
    assert all(loose[path]["ranks"] <= strict[path]["ranks"] for path in loose if path in strict)
    assert any(loose[path]["ranks"] < strict.get(path, {"ranks": [99]})["ranks"] for path in loose)


def test_whole_rank_is_the_identity(model, digits):
    full = Cp(order="tucker", rank=[16, 16], skip=())
    plan = full.decide(model, Context()).data
    assert not plan["layers"]  # nothing would be saved
    assert "saves no multiplications" in plan["skipped"]["encoder.conv2"]
    assert full(model).edits == ()
    layer = model.net.encoder.conv2
    kernel = layer.weight.detach().double().numpy()
    np.testing.assert_allclose(decompose(kernel, "tucker2", (12, 8), FAST).kernel, kernel, atol=1e-6)


@pytest.mark.slow
def test_data_aware_fit_answers_real_inputs_better(model, digits):
    pixels = choose(digits, 200)
    moments = patch_moments(model, pixels, "encoder.conv3")[0]
    kernel = model.net.encoder.conv3.weight.detach().double().numpy()
    seen = whiten.shrunk(moments.covariance)
    for form, ranks in (("cp4", (14,)), ("cp3", (12,)), ("tucker2", (5, 4))):
        plain = decompose(kernel, form, ranks, Method(sweeps=30)).kernel
        aware = decompose(kernel, form, ranks, Method(sweeps=30), seen).kernel
        assert whiten.response_error(kernel, aware, seen) < 0.8 * whiten.response_error(kernel, plain, seen)
    errors = []
    for data in (False, True):
        small = Cp(order=3, rank=20, data=data, sweeps=30)(model, digits)
        errors.append(np.linalg.norm(outputs(small, pixels) - outputs(model, pixels)))
    assert errors[1] < 0.7 * errors[0]


def test_data_aware_bias_keeps_the_mean_response(model, digits):
    pixels = choose(digits, 60)
    path = "encoder.conv3"
    net = model.copy_net()
    replace_layer(net, Factored(path, "cp3", (4,)), FAST, model, pixels, seed=0)
    small = dataclasses.replace(model, net=net)
    before, after = (sampled_activations(one, pixels, [path], places=99).outputs[path] for one in (model, small))
    gap = np.abs(after.mean(axis=0) - before.mean(axis=0)).max()
    assert gap < 0.15 * np.abs(after - before).mean()  # the sample differs, as the border does
    assert np.abs(after - before).mean() > 0.1 * np.abs(before).mean()


def test_what_cannot_be_treated_is_listed(digits):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.depth = nn.Conv2d(4, 4, 3, groups=4)
            self.mirror = nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")
            self.idle = nn.Conv2d(4, 4, 3)
            self.point = nn.Conv2d(4, 8, 1)
            self.fine = nn.Conv2d(8, 16, 3, bias=False)

        def forward(self, images):
            return self.fine(self.point(self.mirror(self.depth(images)))).mean((2, 3))

    arch = dataclasses.replace(default_arch("lenet5", 16), input=ImageInput((4, 9, 9), (0.5,) * 4, (1.0,) * 4))
    odd = HashModel(Odd().eval(), arch)
    work = Cp(rank=3, sweeps=5, skip=())
    plan = work.decide(odd, Context()).data
    assert set(plan["layers"]) == {"fine"}
    assert "depthwise" in plan["skipped"]["depth"]
    assert "reflect" in plan["skipped"]["mirror"] or "zero padding" in plan["skipped"]["mirror"]
    assert "did not run" in plan["skipped"]["idle"]
    assert "1x1" in plan["skipped"]["point"]
    made = work(odd)
    assert made.net.fine[-1].bias is None
    assert made.history[-1].after["left"] == plan["skipped"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "exactly one of"),
        ({"rank": 3, "share": 0.5}, "found rank, share"),
        ({"rank": 0}, "1 to 65535"),
        ({"rank": [3, 4]}, "1 whole number"),
        ({"share": 1.5}, "at most 1"),
        ({"rank": 3, "order": 5}, "order must be"),
        ({"rank": 3, "fit": "magic"}, "unknown fit 'magic'"),
        ({"rank": 3, "skip": ("re:(",)}, "regular expression"),
        ({"rank": 3, "images": 0}, "images must be"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(RecipeError, match=message):
        Cp(**settings)


def test_data_are_asked_for(model):
    with pytest.raises(InputError, match="--data"):
        Cp(rank=3, data=True)(model)
    with pytest.raises(InputError, match="--data"):
        Cp(flips=0.1).decide(model, Context())
    with pytest.raises(RecipeError, match="no layer matches"):
        Cp(rank={"encoder.conv9": 3})(model)
    assert PASSES["cp"] is Cp


def test_edit_is_plain_data_and_hostile_ones_are_refused(model):
    edit = Factored("encoder.conv2", "tucker2", (3, 2))
    assert edit_from_json(edit_to_json(edit)) == edit
    hostile = [
        Factored("encoder.conv2", "cp9", (3,)),
        Factored("encoder.conv2", "cp4", (3, 3)),
        Factored("encoder.conv2", "cp4", (1 << 40,)),
        Factored("encoder.conv2", "cp4", (0,)),
        Factored("encoder.fc1", "cp4", (3,)),
        Factored("encoder", "cp4", (3,)),
    ]
    for wrong in hostile:
        with pytest.raises(InputError):
            rebuild(model.arch, [wrong])
    with pytest.raises(ModelFileError):
        edit_from_json({"kind": "factored", "layer": "a", "form": 3, "ranks": [1]})
