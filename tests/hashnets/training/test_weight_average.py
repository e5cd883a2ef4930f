"""The mean of networks: parameters by their shares, norms' statistics measured on the images."""

import numpy as np
import pytest
import torch
from hashpress.compress.passes import Fold
from hashpress.core.data import load_data
from hashpress.core.errors import InputError
from hashpress.core.inputs import ImageInput
from hashpress.core.model import Arch
from hashpress.hashnets.build import untrained
from hashpress.hashnets.retrieval.codes import outputs
from hashpress.hashnets.training.schedule import Schedule
from hashpress.hashnets.training.train import train
from hashpress.hashnets.training.weight_average import averaged

ARCH = Arch("resnet20", 8, ImageInput((1, 8, 8), (0.3,), (0.4,)))


@pytest.fixture(scope="module")
def split():
    return load_data("digits?limit=600", protocol="B")


@pytest.fixture(scope="module")
def ends(split):
    start = untrained(ARCH, seed=0)
    first = train(start, split, "dlbhc", Schedule(epochs=1, batch=64, lr=0.05))
    return [first, train(first, split, "dlbhc", Schedule(epochs=1, batch=64, lr=0.05), seed=1)]


def test_parameters_are_the_weighted_mean(ends, split):
    mixed = averaged(ends, [0.25, 0.75], split.train)
    first, second, found = (dict(model.net.named_parameters()) for model in (*ends, mixed))
    for name, value in found.items():
        torch.testing.assert_close(value, 0.25 * first[name] + 0.75 * second[name], rtol=1e-5, atol=1e-7)
    assert mixed.history[-1].name == "average"
    assert not any(module.training for module in mixed.net.modules())


def test_norms_are_those_of_the_images_not_of_a_network(ends, split):
    mixed = averaged(ends, [0.5, 0.5], split.train)
    name = "encoder.bn1"
    seen = mixed.arch.input.normalise(split.train.pixels)
    with torch.no_grad():
        wanted = mixed.net.get_submodule("encoder.conv1")(seen).mean((0, 2, 3))
    norm = mixed.net.get_submodule(name)
    assert norm.momentum == ends[0].net.get_submodule(name).momentum
    torch.testing.assert_close(norm.running_mean, wanted, rtol=0.05, atol=0.02)
    stale = (ends[0].net.get_submodule(name).running_mean + ends[1].net.get_submodule(name).running_mean) / 2
    assert (norm.running_mean - wanted).norm() < 0.5 * (stale - wanted).norm()


def test_all_of_one_network_is_that_network_with_norms_measured_again(ends, split):
    given, wanted = (outputs(m, split.queries.pixels) for m in (averaged(ends, [0.0, 1.0], split.train), ends[1]))
    assert np.mean((given >= 0) != (wanted >= 0)) < 0.2
    folded = [Fold()(model) for model in ends]
    again = averaged(folded, [0.0, 1.0], split.train)
    assert np.array_equal(outputs(again, split.queries.pixels), outputs(folded[1], split.queries.pixels))


def test_the_networks_given_stay_as_they_are(ends, split):
    before = [{name: value.clone() for name, value in model.net.state_dict().items()} for model in ends]
    averaged(ends, [0.5, 0.5], split.train)
    for model, state in zip(ends, before, strict=True):
        assert all(torch.equal(state[name], value) for name, value in model.net.state_dict().items())


@pytest.mark.parametrize(
    ("pick", "shares", "message"),
    [
        (lambda ends: ends, [0.5, 0.4], "together 1"),
        (lambda ends: ends, [1.0], "one share a network"),
        (lambda ends: [], [], "one share a network"),
        (lambda ends: [ends[0], Fold()(ends[1])], [0.5, 0.5], "same edits"),
    ],
)
def test_what_cannot_be_averaged_is_refused(ends, split, pick, shares, message):
    with pytest.raises(InputError, match=message):
        averaged(pick(ends), shares, split.train)
