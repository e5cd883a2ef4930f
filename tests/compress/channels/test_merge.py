"""Neurons merged without data: exact where neurons are equal, the paper's saliency by brute force, refit by least squares."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hashpress.compress.base import Context
from hashpress.compress.channels import similarity
from hashpress.compress.channels.graph import LayerTracer, _Walk, channels
from hashpress.compress.channels.least_squares import refit
from hashpress.compress.channels.merge import Merge
from hashpress.compress.channels.narrow import layers_with_fewer_inputs
from hashpress.compress.channels.neurons import neurons_of
from hashpress.compress.channels.removal import cut
from hashpress.compress.channels.similarity import Neurons
from hashpress.compress.fold import Fold
from hashpress.compress.observe.synthetic import noise
from hashpress.core.data import load_data
from hashpress.core.errors import InputError, RecipeError
from hashpress.core.inputs import ImageInput
from hashpress.hashnets.retrieval.codes import outputs
from hashpress.modelfile.edits import rebuild
from hashpress.modelfile.file import load, save
from small_models import SPEC, a_model


def some(n=7, d=5, m=4, seed=0, **settings):
    draw = np.random.default_rng(seed)
    return Neurons(draw.normal(size=(n, d)), draw.normal(size=n), draw.normal(size=(n, m)), **settings)


# decisions


@pytest.mark.parametrize("scaled", [True, False])
def test_saliency_is_the_formula_of_the_paper(scaled):
    neurons = some(scaled=scaled)
    found = similarity.saliencies(neurons)
    for i in range(7):
        for j in range(7):
            if i == j:
                assert np.isinf(found[i, j])
                continue
            alpha = [np.sqrt((neurons.weight[k] ** 2).sum()) if scaled else 1.0 for k in (i, j)]
            wi, wj = neurons.weight[i] / alpha[0], neurons.weight[j] / alpha[1]
            bi, bj = neurons.bias[i] / alpha[0], neurons.bias[j] / alpha[1]
            eps = np.sqrt(((wi - wj) ** 2).sum()) / np.sqrt(((wi + wj) ** 2).sum()) + abs(bi - bj) / abs(bi + bj)
            assert found[i, j] == pytest.approx(np.mean((alpha[1] * neurons.outgoing[j]) ** 2) * eps**2)


@pytest.mark.parametrize("distance", similarity.DISTANCES)
def test_the_order_is_that_of_a_brute_force_search(distance):
    """The whole matrix anew after every merge, as the paper describes it."""
    neurons = some(n=12)
    done = similarity.merges(neurons, count=9, distance=distance)
    scale = np.linalg.norm(neurons.weight, axis=1)
    alive, outgoing = list(range(12)), neurons.outgoing * scale[:, None]
    far = similarity.distances(neurons, distance)
    for merge in done:
        cost = {(i, j): far[i, j] * np.mean(outgoing[j] ** 2) for i in alive for j in alive if i != j}
        i, j = min(cost, key=cost.get)
        assert (merge.into, merge.removed) == (i, j)
        assert merge.saliency == pytest.approx(cost[i, j])
        assert merge.factor == pytest.approx(scale[j] / scale[i])
        outgoing[i] += outgoing[j]
        alive.remove(j)


def test_opposed_neurons_do_not_break_the_distance():
    neurons = Neurons(np.array([[1.0, 0], [-1.0, 0], [1.0, 1e-9]]), np.array([0.5, -0.5, 0.5]), np.ones((3, 2)))
    found = similarity.saliencies(neurons)
    assert np.isfinite(found[~np.eye(3, dtype=bool)]).all()
    assert similarity.merges(neurons, count=1)[0][:2] in [(0, 2), (2, 0)]


def test_free_neurons_go_first_and_constants_never_take_over():
    neurons = some(n=5)
    neurons.weight[3], neurons.bias[3] = 0, 0
    done = similarity.merges(neurons, count=3, free=[3])
    assert done[0] == (3, 3, 0.0, 0.0)
    assert all(merge.into != 3 for merge in done[1:])
    assert similarity.merges(neurons, limit=0.0, free=[3]) == [(3, 3, 0.0, 0.0)]
    neurons.bias[3] = 1  # a constant is no neuron of unit norm: it stays
    assert all(3 not in merge[:2] for merge in similarity.merges(neurons, count=4))


def test_cutoff_is_the_mode_without_the_outliers():
    draw = np.random.default_rng(0)
    values = np.concatenate([draw.normal(5, 0.5, 9_600), draw.uniform(1_000, 10_000, 400)]).reshape(100, 100)
    assert similarity.cutoff(values) == pytest.approx(5, abs=0.5)
    assert similarity.cutoff(np.full((1, 1), np.inf)) == 0


# networks


def twins(model, path, pairs, factors):
    """Make neuron j of a layer ``factor`` times neuron i, bias included."""
    layer = model.net.get_submodule(path)
    for (i, j), factor in zip(pairs, factors, strict=True):
        layer.weight.data[j] = factor * layer.weight.data[i]
        layer.bias.data[j] = factor * layer.bias.data[i]


@pytest.mark.parametrize(
    ("encoder", "path", "options"),
    [
        ("lenet5", "encoder.fc1", {"widths": [4, 6, 10]}),
        ("lenet5", "encoder.conv2", {"widths": [4, 6, 10]}),
        ("lenet5", "encoder.conv1", {"widths": [4, 6, 10]}),
        ("lenet300", "encoder.fc1", {"widths": [20, 10]}),
        ("smallconv", "encoder.conv2", {"widths": [4, 6, 6, 10]}),
    ],
)
def test_equal_neurons_merge_without_any_change(encoder, path, options):
    """Neurons that are equal up to a positive factor: the outputs stay, two neurons are gone."""
    model = a_model(encoder, **options)
    twins(model, path, [(0, 2), (1, 3)], [3.0, 0.25])
    size = len(model.net.get_submodule(path).bias)
    pick = Merge(share={path: 2 / size}, kinds=("dense", "conv"))
    images = torch.randn(6, *SPEC.shape)
    before, state = model.net(images), copy.deepcopy(model.net.state_dict())
    small = pick(model)
    assert torch.allclose(small.net(images), before, atol=1e-5, rtol=1e-5)
    assert len(small.net.get_submodule(path).bias) == size - 2
    assert all(torch.equal(value, state[name]) for name, value in model.net.state_dict().items())
    assert {name: v.shape for name, v in rebuild(small.arch, small.edits).state_dict().items()} == {
        name: v.shape for name, v in small.net.state_dict().items()
    }
    assert pick.decide(model, Context()).data["layers"][path]["removed"] == 2


def test_residual_streams_and_norms_are_left_with_the_reason():
    spec = ImageInput((1, 16, 16), (0.5,), (0.5,))
    model = a_model("resnet20", spec=spec, widths=[4, 8, 8])
    merge = Merge(share=0.5, kinds=("dense", "conv"))
    left = merge.decide(model, Context()).data["skipped"]
    assert "batch norm" in left["encoder.layer1.0.conv1"]
    assert left["head"] == "reaches the hash outputs"
    folded = Fold()(model)
    decided = merge.decide(folded, Context()).data
    assert "coupled with those of other layers" in decided["skipped"]["encoder.layer1.0.conv2"]
    assert decided["layers"]["encoder.layer1.0.conv1"]["removed"] == 2
    assert set(decided["layers"]) == {f"encoder.layer{s}.{b}.conv1" for s in (1, 2, 3) for b in (0, 1, 2)}


def test_scales_are_not_folded_through_a_sigmoid():
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Sigmoid(), torch.nn.Linear(4, 2))
    walk = _Walk(net.to("meta"), LayerTracer().trace(net))
    walk.run(torch.empty(1, 3, device="meta"))
    found = walk.book.result()
    real = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Sigmoid(), torch.nn.Linear(4, 2))
    assert not neurons_of(real, found, "0").scaled
    assert neurons_of(a_model().net, channels(a_model()), "encoder.fc1").scaled


def test_refit_is_better_than_merging_alone(tmp_path):
    split = load_data("digits?size=16&limit=600")
    model = a_model("lenet5", widths=[6, 10, 40])
    pixels = split.queries.pixels
    before = outputs(model, pixels)
    for share in (0.2, 0.5):
        bare = outputs(Merge(share=share)(model), pixels)
        small = Merge(share=share, refit=400)(model, split, seed=3)
        fitted = outputs(small, pixels)
        assert np.square(fitted - before).mean() < 0.7 * np.square(bare - before).mean()
    save(small, tmp_path / "a.safetensors")
    assert np.array_equal(outputs(load(tmp_path / "a.safetensors"), pixels), fitted)
    again = Merge(share=0.5, refit=400)(model, split, seed=3)
    save(again, tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_the_histogram_decides_without_a_share():
    model = a_model("lenet300", widths=[60, 30])
    twins(model, "encoder.fc1", [(0, k) for k in range(1, 40)], [1.0] * 39)
    figures = Merge().decide(model, Context()).data["layers"]["encoder.fc1"]
    assert figures["removed"] >= 39
    assert figures["saliency"] <= figures["cutoff"]
    half = Merge(caution=0.5).decide(model, Context()).data["layers"]["encoder.fc1"]
    assert half["removed"] == round(figures["removed"] / 2)
    assert Merge(share=0.0)(model).edits == ()


def test_wrong_settings_are_named():
    with pytest.raises(RecipeError, match="share of"):
        Merge(share=1.0)
    with pytest.raises(RecipeError, match="unknown distance"):
        Merge(distance="far")
    with pytest.raises(RecipeError, match="kinds are"):
        Merge(kinds=("pool",))
    with pytest.raises(RecipeError, match="no layer matches"):
        Merge(share={"encoder.fc9": 0.5})(a_model())
    with pytest.raises(InputError, match="training images"):
        Merge(refit=10)(a_model())
    with pytest.raises(RecipeError, match="how many are drawn"):
        Merge(images="noise")
    with pytest.raises(RecipeError, match="unknown images 'test'"):
        Merge(images="test", refit=10)


def test_noise_is_as_smooth_as_natural_images():
    """Amplitude 1/f is power 1/f^2: the slope of the periodogram, under a window because images have borders."""
    images = noise(ImageInput((2, 64, 48), (0.5, 0.4), (0.1, 0.05)), 300, seed=3)
    assert images.shape == (300, 2, 64, 48)
    for channel, (mean, deviation) in enumerate([(0.5, 0.1), (0.4, 0.05)]):
        values = images[:, channel] / 255
        assert values.mean() == pytest.approx(mean, abs=0.02)
        assert values.std() == pytest.approx(deviation, rel=0.1)
        power = np.square(np.abs(np.fft.fft(values * np.hanning(48), axis=2))).mean(axis=(0, 1))  # over rows: 1/f
        flat = np.square(np.abs(np.fft.fft2(values * np.hanning(64)[:, None] * np.hanning(48)))).mean(axis=0)
        assert np.polyfit(np.log(np.arange(3, 12)), np.log(np.diag(flat)[3:12]), 1)[0] == pytest.approx(-2, abs=0.25)
        assert np.polyfit(np.log(np.arange(3, 12)), np.log(power[3:12]), 1)[0] == pytest.approx(-1, abs=0.25)
    assert np.array_equal(images, noise(ImageInput((2, 64, 48), (0.5, 0.4), (0.1, 0.05)), 300, seed=3))
    assert abs(np.corrcoef(images[:, 0].ravel(), images[:, 1].ravel())[0, 1]) < 0.1


def test_refit_and_choice_on_noise_need_no_data_and_help_on_real_images():
    pixels = load_data("digits?size=16&limit=600").queries.pixels
    model = a_model("lenet5", widths=[6, 10, 40])
    before = outputs(model, pixels)
    settings = ({}, {"refit": 600, "images": "noise"}, {"refit": 600, "images": "noise", "by": "outputs"})
    errors = [np.square(outputs(Merge(share=0.5, **some)(model, seed=3), pixels) - before).mean() for some in settings]
    assert errors[2] < 0.9 * errors[1] < 0.5 * errors[0]


def test_refit_moves_a_constant_into_the_bias():
    model = a_model("lenet300", widths=[8, 12])
    layer = model.net.encoder.fc1
    layer.weight.data[3], layer.bias.data[3] = 0, 2.0
    found = channels(model)
    gone = found.layers["encoder.fc1"].outputs[3:4]
    net = model.copy_net()
    cut(net, found, gone)
    pixels = np.random.default_rng(0).integers(0, 256, (200, *SPEC.shape), dtype=np.uint8)
    refit(net, model.net, layers_with_fewer_inputs(found, gone), pixels, SPEC, ridge=1e-9)
    expected = model.net.encoder.fc2.bias + 2.0 * model.net.encoder.fc2.weight[:, 3]
    assert torch.allclose(net.encoder.fc2.bias, expected, atol=1e-4)


@pytest.mark.parametrize("path", ["encoder.fc1", "encoder.conv2", "encoder.conv1"])
def test_choice_by_outputs_beats_choice_by_weights(path):
    split = load_data("digits?size=16&limit=600")
    model = a_model("lenet5", widths=[6, 10, 40])
    before = outputs(model, split.queries.pixels)
    errors = []
    for by in ("weights", "outputs"):
        small = Merge(share={path: 0.5}, kinds=("dense", "conv"), refit=400, by=by)(model, split)
        errors.append(np.square(outputs(small, split.queries.pixels) - before).mean())
    assert errors[1] < 0.95 * errors[0]
    with pytest.raises(RecipeError, match="needs share"):
        Merge(by="outputs", refit=10)


def test_no_choice_by_outputs_that_many_inputs_read(monkeypatch):
    """Products of 9,216 inputs with each other, as AlexNet's first dense layer has, take three times the network."""
    monkeypatch.setattr("hashpress.compress.channels.merge.WIDEST", 40)
    split, model = load_data("digits?size=16&limit=100"), a_model("lenet5", widths=[6, 10, 40])
    for by, wide in (("outputs", {"encoder.conv1"}), ("weights", set())):
        work = Merge(share=0.5, kinds=("dense", "conv"), refit=50, by=by)
        found = work.decide(model, Context(split)).data
        left = {path for path, reason in found["skipped"].items() if "which reads it, has" in reason}
        assert left == wide
        assert not left & found["layers"].keys()
        sizes = [len(work(model, split).net.get_submodule(path).weight) for path in ("encoder.conv1", "encoder.conv2")]
        assert sizes == [6 if wide else 3, 5]


def test_weights_of_merged_neurons_add_up_along_chains():
    """2 goes into 1, 3 into 1, and 1 into 0: what a matrix of all outgoing weights gives."""
    outgoing = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    done = [
        similarity.MergedPair(2, 1, 0.5, 0.0),
        similarity.MergedPair(3, 1, 2.0, 0.0),
        similarity.MergedPair(1, 0, 3.0, 0.0),
    ]
    found = similarity.outgoing_after(outgoing, done)
    whole = outgoing.astype(np.float64)
    assert list(found) == [0]
    assert found[0] == pytest.approx(whole[0] + 3 * (whole[1] + 0.5 * whole[2] + 2 * whole[3]), abs=1e-12)
    silent = similarity.outgoing_after(outgoing, [similarity.MergedPair(4, 4, 0.0, 0.0), done[0]])
    assert list(silent) == [1]


def test_products_in_blocks_are_those_of_all_rows(monkeypatch):
    monkeypatch.setattr(similarity, "ROWS", 3)
    monkeypatch.setattr(similarity, "COLUMNS", 4)
    random = np.random.default_rng(0)
    weight, scale = random.normal(size=(8, 10)).astype(np.float32), random.uniform(1, 2, 8)
    scaled = weight / scale[:, None]
    assert similarity.products(weight, scale) == pytest.approx(scaled @ scaled.T, abs=1e-12)
