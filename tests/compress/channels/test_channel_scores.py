"""What a channel is worth to the code, against finite differences."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import small_models
import torch
from hashpress.compress.channels.graph import channels
from hashpress.compress.channels.narrow import Narrow
from hashpress.compress.channels.scores import SCORES, by_code, by_taylor
from hashpress.core.data import load_data
from hashpress.core.inputs import ImageInput
from hashpress.hashnets.build import default_arch, untrained
from hashpress.hashnets.losses.pair import pair_likelihood
from hashpress.hashnets.retrieval.codes import outputs
from small_models import some_images

a_model = partial(small_models.a_model, norms=True)


def test_code_score_is_the_first_order_change():
    """Oracle: finite differences of the outputs under a gate on one channel, squared and weighted by hand."""
    model = a_model(widths=[3, 4, 5], bits=3)
    images = some_images(count=6)
    found = channels(model)
    scores = by_code(model, found, images, 0)
    real = outputs(model, images.pixels).astype(np.float64)
    spread = np.median(np.abs(real), axis=0) / 2
    weight = np.exp(-0.5 * (real / spread) ** 2) / np.sqrt(2 * np.pi) * np.abs(real) / (2 * spread**3)
    inputs = model.arch.input.normalise(images.pixels).double()
    for channel in range(4):
        changes = []
        for sign in (1, -1):
            net = model.copy_net().double()
            gain = 1 + sign * 1e-5
            net.encoder.fc1.weight.data.view(5, 4, -1)[:, channel] *= gain
            changes.append(net(inputs).detach().numpy())
        moved = (changes[0] - changes[1]) / 2e-5
        expected = (weight * moved**2).sum() / len(images)
        assert scores[found.layers["encoder.conv2"].outputs[channel]] == pytest.approx(expected, rel=1e-3)


def test_code_score_of_probes_agrees_with_all_bits():
    model = a_model(widths=[3, 4, 5], bits=10)
    images, found = some_images(count=64), channels(model)
    exact, drawn = by_code(model, found, images, 0, probes=10), by_code(model, found, images, 0, probes=9)
    assert np.corrcoef(exact, drawn)[0, 1] > 0.95


def test_code_score_finds_the_channel_that_does_not_matter():
    model = a_model(widths=[3, 4, 5])
    model.net.encoder.fc1.bias.data += 20  # no neuron is silent
    model.net.head.weight.data[:, 2] = 0
    found = channels(model)
    scores = by_code(model, found, some_images(), 0)
    labels = found.layers["encoder.fc1"].outputs
    assert scores[labels[2]] == 0
    assert (scores[np.delete(labels, 2)] > 0).all()


@pytest.mark.parametrize("encoder", ["nets_foreign:alias", "resnet20"])
def test_taylor_score_is_the_square_of_weights_times_gradients(encoder):
    """Oracle: all gradients at once, two batches; layers that share one weight count it each."""
    digits = load_data("digits?limit=120")
    model = untrained(default_arch(encoder, 12, ImageInput.of(digits)), seed=3, trust_code=True)
    found, images = channels(model), digits.train
    assert 64 < len(images) < 128
    order, total = np.random.default_rng(5).permutation(len(images)), 0.0
    paths = [path for path, layer in found.layers.items() if layer.produces]
    weights = [model.net.eval().get_submodule(path).weight for path in paths]
    for part in (order[:64], order[64:]):
        chosen = images.take(np.sort(part))
        given, labels = model.net(model.arch.input.normalise(chosen.pixels)), torch.from_numpy(chosen.labels)
        gradients = torch.autograd.grad(pair_likelihood(given, labels, given.detach(), labels), weights)
        change = np.zeros(1 + max(layer.outputs.max() for layer in found.layers.values()))
        for path, weight, gradient in zip(paths, weights, gradients, strict=True):
            np.add.at(change, found.layers[path].outputs, (gradient * weight).flatten(1).sum(1).detach().numpy())
        total = total + change**2
    np.testing.assert_allclose(by_taylor(model, found, images, 5)[: len(total)], total, rtol=1e-4)
    assert total.any()


@pytest.mark.parametrize(("score", "order"), [("l1", 1), ("l2", 2)])
def test_scores_by_weights_are_norms_over_their_mean(score, order):
    """Oracle: numpy on every filter; the mean of those that stand together is one, hash outputs are not divided."""
    model = a_model(widths=[5, 7, 9])
    found = channels(model)
    scores = SCORES[score](model, found, None, 0)
    for path in ("encoder.conv1", "encoder.conv2", "encoder.fc1"):
        weight = model.net.get_submodule(path).weight.detach().numpy().astype(np.float64)
        norms = (np.abs(weight.reshape(len(weight), -1)) ** order).sum(1) ** (1 / order)
        np.testing.assert_allclose(scores[found.layers[path].outputs], norms / norms.mean(), rtol=1e-6)
        assert norms.std() > 1e-3 * norms.mean()


def test_the_two_norms_take_different_channels():
    """One filter with all its weight at one place, one with less weight spread over all places."""
    model = a_model(widths=[3, 4, 5])
    weight = model.net.encoder.conv2.weight.data
    weight[0], weight[1], weight[2:] = 0, 0.1, 1
    weight[0, 0, 0, 0] = 2.0  # norms of 75 weights: 2 and 2 against 7.5 and 0.87
    for score, gone in (("l1", 0), ("l2", 1)):
        thin = Narrow(ratio=0.25, score=score, skip=("encoder.conv1", "encoder.fc1"))(model)
        assert torch.equal(thin.net.encoder.conv2.weight, weight[np.delete(np.arange(4), gone)])


def test_factors_of_batch_norm_say_which_channels_go():
    """Oracle: the factors themselves, over their mean; of a stream, the mean of those of all norms on it."""
    model = a_model("resnet20", spec=ImageInput((1, 16, 16), (0.5,), (0.5,)), widths=[4, 8, 8])
    state = {name: value.abs().double().numpy() for name, value in model.net.state_dict().items()}
    found = channels(model)
    scores = SCORES["bn"](model, found, None, 0)
    alone = state["encoder.layer1.0.bn1.weight"]
    np.testing.assert_allclose(scores[found.layers["encoder.layer1.0.conv1"].outputs], alone / alone.mean())
    stream = [state["encoder.bn1.weight"], *(state[f"encoder.layer1.{block}.bn2.weight"] for block in range(3))]
    for stage in (2, 3):  # two zero channels stand before it
        stream += [state[f"encoder.layer{stage}.{block}.bn2.weight"][2:6] for block in range(3)]
    mean = np.mean(stream, axis=0)
    np.testing.assert_allclose(scores[found.layers["encoder.conv1"].outputs], mean / mean.mean())
    thin = Narrow(ratio=0.25, score="bn", skip=("encoder.conv1",))(model)
    kept = np.sort(np.argsort(alone)[1:])
    norm = model.net.encoder.layer1[0].bn1
    assert torch.equal(thin.net.encoder.layer1[0].bn1.weight, norm.weight[kept])


def test_layers_of_different_size_compare():
    """A layer of weights a hundred times larger loses channels as one of ordinary weights does."""
    model, large = a_model(widths=[8, 8, 8]), a_model(widths=[8, 8, 8])
    large.net.encoder.conv2.weight.data *= 100
    sizes = [[value.shape for value in Narrow(macs=0.5)(one).net.parameters()] for one in (model, large)]
    assert sizes[0] == sizes[1]
    assert sizes[0] != [value.shape for value in model.net.parameters()]
