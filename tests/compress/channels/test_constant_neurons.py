"""Merging that must change nothing: neurons that give a constant, neurons that are equal once others have gone."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hashpress.compress.base import Context
from hashpress.compress.channels.constant_neurons import absorbed_constants
from hashpress.compress.channels.graph import channels
from hashpress.compress.channels.merge import Merge
from hashpress.core.model import HashModel
from hashpress.hashnets.build import default_arch, untrained
from hashpress.modelfile.edits import rebuild
from hashpress.modelfile.file import load, save
from small_models import SPEC
from torch import nn

IMAGES = torch.randn(6, *SPEC.shape, generator=torch.Generator().manual_seed(1))
BENT = {"sigmoid": nn.Sigmoid, "softplus": nn.Softplus, "hardsigmoid": nn.Hardsigmoid, "relu": nn.ReLU, "tanh": nn.Tanh}


class Stacked(nn.Sequential):
    """Dense layers, or convolutions before a dense one, with one function between them."""

    def __init__(self, act, *, conv=False, bias=True, padding=0, mode="zeros", pool=False):
        if pool:
            edged = nn.AvgPool2d(3, 2, 1)  # the zeros around count
            behind = [nn.Conv2d(8, 6, 8), nn.Flatten()] if conv else [nn.Flatten(), nn.Linear(512, 6)]
            parts = [nn.Conv2d(1, 8, 3, padding=1), BENT[act](), edged, *behind, nn.ReLU(), nn.Linear(6, 9)]
        elif conv:
            second = nn.Conv2d(8, 6, 3, padding=padding, bias=bias, padding_mode=mode)
            size = 6 * (14 if not padding else 16) ** 2
            parts = [nn.Conv2d(1, 8, 3, padding=1), BENT[act](), second, nn.ReLU(), nn.Flatten(), nn.Linear(size, 9)]
        else:
            first, second = nn.Linear(256, 8), nn.Linear(8, 8, bias=bias)
            parts = [nn.Flatten(), first, BENT[act](), second, nn.ReLU(), nn.Linear(8, 9)]
        super().__init__(*parts)


def dense(_shape, **options):
    return Stacked(**options)


def stacked(**options) -> HashModel:
    arch = default_arch("test_constant_neurons:dense", 12, SPEC, **options)
    return untrained(arch, seed=3, trust_code=True)


def still(model, path, rows, values):
    layer = model.net.get_submodule(path)
    layer.weight.data[rows], layer.bias.data[rows] = 0, torch.tensor(values)


def unchanged(model, result):
    torch.testing.assert_close(result.net(IMAGES), model.net(IMAGES), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("act", BENT)
@pytest.mark.parametrize("value", [0.0, 0.7, -0.7])
def test_a_constant_goes_into_the_biases_behind(act, value, tmp_path):
    """Oracle: the function itself, and the outputs."""
    model = stacked(act=act)
    still(model, "encoder.1", [3], [value])
    bias, weight = model.net.encoder[3].bias.detach().clone(), model.net.encoder[3].weight.detach().clone()
    result = Merge(share={"encoder.1": 1 / 8})(model)
    assert result.net.encoder[1].out_features == 7
    unchanged(model, result)
    given = float(BENT[act]()(torch.tensor(value)))
    torch.testing.assert_close(result.net.encoder[3].bias.detach(), bias + given * weight[:, 3])
    assert torch.equal(model.net.encoder[3].bias, bias)
    save(result, tmp_path / "a.safetensors")
    assert torch.equal(load(tmp_path / "a.safetensors", trust_code=True).net(IMAGES), result.net(IMAGES))
    empty = rebuild(result.arch, result.edits, trust_code=True).state_dict()
    assert {name: v.shape for name, v in empty.items()} == {n: v.shape for n, v in result.net.state_dict().items()}


@pytest.mark.parametrize("settings", [{}, {"share": 0.6}, {"share": 0.6, "distance": "joint"}])
def test_constants_go_before_any_neuron_is_merged(settings):
    """Five of eight: nothing else has to be merged, with a share or by the histogram."""
    model = stacked(act="sigmoid")
    still(model, "encoder.1", [0, 2, 3, 5, 7], [0.0, 0.1, 0.0, -3.0, 2.0])
    result = Merge(**settings, skip=("encoder.3", "encoder.5"))(model)
    figures = result.history[-1].after["layers"]["encoder.1"]
    assert figures["removed"] >= 5
    if figures["removed"] == 5:
        unchanged(model, result)
        assert figures["saliency"] == 0
    half = Merge(share=0.3)(model).history[-1].after["layers"]["encoder.1"]
    assert half == {"neurons": 8, "removed": 2, "saliency": 0.0}


@pytest.mark.parametrize(
    ("options", "value", "goes"),
    [
        ({"conv": True}, 0.7, True),
        ({"conv": True, "padding": 1}, 0.7, False),  # it is missing at the border
        ({"conv": True, "padding": 1}, 0.0, True),
        ({"conv": True, "padding": 1, "mode": "reflect"}, 0.7, True),
        ({"conv": True, "bias": False}, 0.7, False),
        ({"conv": True, "bias": False}, -0.7, True),
        ({"bias": False}, 0.7, False),
        ({"bias": False}, 0.0, True),
        ({"conv": True, "pool": True}, 0.7, False),  # it is smaller at the border
        ({"conv": True, "pool": True}, 0.0, True),
    ],
)
def test_a_constant_stays_where_no_bias_can_stand_for_it(options, value, goes):
    model = stacked(act="relu", **options)
    path = "encoder.0" if options.get("conv") else "encoder.1"
    still(model, path, [3], [value])
    work = Merge(share={path: 0.99}, kinds=("dense", "conv"))
    free, why = absorbed_constants(model.net, channels(model), path, [3], SPEC)
    assert (list(free) == [3], why == "") == (goes, goes)
    one = Merge(share={path: 1 / 8}, kinds=("dense", "conv"))(model)
    if goes:
        unchanged(model, one)
    decision = work.decide(model, Context()).data
    assert decision["layers"][path]["removed"] == (7 if goes else 6)
    said = decision["skipped"][path]
    assert ("one stays in every layer" in said) == goes
    assert ("those without weights stay" in said) == (not goes)
    reason = (
        "pads with zeros" if "padding" in options else "not the same everywhere" if "pool" in options else "has no bias"
    )
    assert goes or reason in said
    assert work(model).history[-1].after["layers"][path]["fewer"] == said


def test_pixels_of_a_constant_are_added_up():
    """Behind a flatten one channel is many features; padding in between makes them differ, which a dense layer bears."""
    model = stacked(act="relu", pool=True)
    still(model, "encoder.0", [2], [0.8])
    result = Merge(share={"encoder.0": 1 / 8}, kinds=("conv",))(model)
    assert result.net.encoder[0].out_channels == 7
    unchanged(model, result)


def test_a_bias_that_two_layers_share_gains_in_one_of_them():
    model = stacked(act="sigmoid")
    still(model, "encoder.1", [3], [0.5])
    model.net.encoder[3].bias = model.net.encoder[1].bias
    result = Merge(share={"encoder.1": 1 / 8})(model)
    unchanged(model, result)
    assert result.net.encoder[1].out_features == 7


def test_layers_are_compared_without_the_neurons_that_went():
    """Two neurons of the first layer are equal; two of the second are equal once those are one."""
    model = stacked(act="relu")
    first, second = model.net.encoder[1], model.net.encoder[3]
    first.weight.data[1], first.bias.data[1] = first.weight.data[0], first.bias.data[0]
    second.weight.data[1], second.bias.data[1] = second.weight.data[0], second.bias.data[0]
    both = float(second.weight.data[0, :2].sum())
    second.weight.data[:2, :2] = torch.tensor([[both, 0], [0, both]])
    result = Merge(share=1 / 8, skip=("encoder.5",))(model)
    assert [result.net.encoder[place].out_features for place in (1, 3)] == [7, 7]
    unchanged(model, result)


def test_what_only_neurons_that_went_fed_is_a_constant():
    model = stacked(act="sigmoid")
    still(model, "encoder.1", [0, 1], [0.3, 0.4])
    model.net.encoder[3].weight.data[4, 2:] = 0
    result = Merge(share={"encoder.1": 2 / 8, "encoder.3": 1 / 8})(model)
    assert result.history[-1].after["layers"]["encoder.3"]["saliency"] == 0
    unchanged(model, result)


def test_ordinary_layers_are_silent_about_what_went():
    decision = Merge(share=0.5).decide(stacked(act="relu"), Context()).data
    assert decision["skipped"].keys() == {"head"}
    assert all("fewer" not in one for one in decision["layers"].values())


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_layers_of_zeros_leave_one_neuron_and_no_warning(value):
    model = stacked(act="relu")
    still(model, "encoder.1", list(range(8)), [value] * 8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = Merge()(model)
    assert result.net.encoder[1].out_features == 1
    assert np.isfinite(result.net(IMAGES).detach().numpy()).all()
