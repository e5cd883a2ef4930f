"""What a channel is worth to the code, against finite differences."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import small_models
import torch
from hashpress.compress.channel_scores import by_code, by_taylor
from hashpress.compress.channels import channels
from hashpress.core.data import load_data
from hashpress.core.model import InputSpec
from hashpress.hashnets.build import default_arch, untrained
from hashpress.hashnets.codes import outputs
from hashpress.hashnets.losses.pair import pair_likelihood
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
            net = model.copied_net().double()
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
    model = untrained(default_arch(encoder, 12, InputSpec.of(digits)), seed=3, trust_code=True)
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
