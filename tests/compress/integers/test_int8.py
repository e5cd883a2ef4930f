"""Integer layers against numpy's int64 loops; scales and roundings against brute force; what densified() keeps."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch
from hashpress.compress.base import Context
from hashpress.compress.fold import Fold
from hashpress.compress.integers import ranges
from hashpress.compress.integers.int8 import Int8
from hashpress.core.data import load_data
from hashpress.core.errors import InputError, ModelFileError, RecipeError
from hashpress.hashnets.retrieval.codes import outputs
from hashpress.modelfile.edits import edit_from_json, edit_to_json, rebuild
from hashpress.modelfile.file import load, save
from hashpress.modelfile.layers.densify import densified
from hashpress.modelfile.layers.int8 import (
    FloatConv2d,
    Int8Conv2d,
    Int8Linear,
    Quantized,
    accumulator_dtype,
    quantise,
    rescale,
)
from hashpress.modelfile.reader import read_dense
from small_models import SPEC, a_model, flips
from torch import nn


@pytest.fixture(scope="module")
def split():
    return load_data("digits?size=16&limit=400")


def an_integer_layer(layer, seed=0, step=2.0**-7, **settings):
    how = Quantized("layer", 0.037, 99, step, **settings)
    made = (Int8Conv2d if isinstance(layer, nn.Conv2d) else Int8Linear)(layer, how)
    draw = np.random.default_rng(seed)
    made.form.integers.copy_(torch.from_numpy(draw.integers(-127, 128, tuple(layer.weight.shape))))
    made.bias.copy_(torch.from_numpy(draw.integers(-5000, 5000, len(layer.weight)).astype(np.float32)))
    made.multiplier.copy_(torch.from_numpy(draw.uniform(1e-3, 2e-2, len(layer.weight)).astype(np.float32)))
    return made


# arithmetic


def quantised_by_numpy(x, how):
    inverse = np.float32(1) / np.float32(how.scale)
    return np.clip(np.rint(x.astype(np.float32) * inverse) + how.zero, 0, how.high).astype(np.int64) - how.zero


def rescaled_by_numpy(acc, layer):
    assert np.abs(acc).max() < 2**31
    shape = (-1, *[1] * (acc.ndim - 2))
    y = acc.astype(np.int32).astype(np.float32) * layer.multiplier.numpy().reshape(shape)
    return np.rint(y) * np.float32(layer.quantization.step) if layer.quantization.step else y


@pytest.mark.parametrize(
    ("channels", "filters", "kernel", "settings"),
    [
        (3, 5, (3, 3), {"padding": 1}),
        (4, 6, (5, 3), {"stride": (2, 1), "padding": (2, 0), "dilation": (1, 2)}),
        (6, 6, (3, 3), {"groups": 6, "padding": 1, "stride": 2}),
        (6, 4, (1, 1), {"groups": 2}),
    ],
)
def test_convolution_is_that_of_integer_loops(channels, filters, kernel, settings):
    layer = an_integer_layer(nn.Conv2d(channels, filters, kernel, **settings))
    x = np.random.default_rng(1).normal(0, 3, (2, channels, 9, 8)).astype(np.float32)
    q, w = quantised_by_numpy(x, layer.quantization), layer.form.integers.numpy().astype(np.int64)
    (ph, pw), (sh, sw), (dh, dw) = layer.padding, layer.stride, layer.dilation
    q = np.pad(q, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    high = (q.shape[2] - dh * (kernel[0] - 1) - 1) // sh + 1
    wide_ = (q.shape[3] - dw * (kernel[1] - 1) - 1) // sw + 1
    acc = np.zeros((2, filters, high, wide_), dtype=np.int64)
    each, per = channels // layer.groups, filters // layer.groups
    for n, o, y, z in itertools.product(range(2), range(filters), range(high), range(wide_)):
        total = int(layer.bias[o])
        for c, i, j in itertools.product(range(each), range(kernel[0]), range(kernel[1])):
            total += q[n, (o // per) * each + c, y * sh + i * dh, z * sw + j * dw] * w[o, c, i, j]
        acc[n, o, y, z] = total
    assert np.array_equal(layer(torch.from_numpy(x)).numpy(), rescaled_by_numpy(acc, layer))


@pytest.mark.parametrize("step", [0.0, 2.0**-5])
def test_dense_layer_is_that_of_integers(step):
    layer = an_integer_layer(nn.Linear(3000, 20), step=step)
    x = np.random.default_rng(1).normal(0, 3, (7, 3000)).astype(np.float32)
    acc = quantised_by_numpy(x, layer.quantization) @ layer.form.integers.numpy().astype(
        np.int64
    ).T + layer.bias.numpy().astype(np.int64)
    assert accumulator_dtype(layer.form.integers, layer.bias, 255) == torch.float64
    assert np.array_equal(layer(torch.from_numpy(x)).numpy(), rescaled_by_numpy(acc, layer))


def test_single_precision_is_taken_only_where_it_is_exact():
    """A batch of 32 accumulator_dtype 3x3 convolutions, where libraries like to transform: equal to int64 matrix products."""
    layer = an_integer_layer(nn.Conv2d(64, 64, 3, padding=1))
    layer.form.integers.copy_(torch.clamp(layer.form.integers, -40, 40))
    assert accumulator_dtype(layer.form.integers, layer.bias, 255) == torch.float32
    x = torch.randn(32, 64, 8, 8) * 3
    q = torch.from_numpy(quantised_by_numpy(x.numpy(), layer.quantization).astype(np.float64))
    columns = nn.functional.unfold(q, 3, padding=1).numpy().astype(np.int64)
    acc = (
        layer.form.integers.flatten(1).numpy().astype(np.int64) @ columns + layer.bias.numpy().astype(np.int64)[:, None]
    )
    assert np.array_equal(layer(x).numpy(), rescaled_by_numpy(acc.reshape(32, 64, 8, 8), layer))


def test_outputs_on_the_grid_add_up_the_same_in_any_order():
    layer = an_integer_layer(nn.Conv2d(8, 8, 3, padding=1), step=2.0**-9)
    y = layer(torch.randn(4, 8, 16, 16) * 3).flatten(2)
    shuffled = y[:, :, torch.randperm(256)]
    assert torch.equal(y.sum(2), shuffled.sum(2))
    assert torch.equal(y.double().sum(2), y.sum(2).double())


def test_the_step_is_a_power_of_two_above_a_16384th():
    for reach in (1e-3, 0.7, 1.0, 5.0, 3000.0):
        step = ranges.grid_step(reach)
        assert np.log2(step) == int(np.log2(step))
        assert 2**13 < reach / step <= 2**14


# scales


def test_ranges_hold_zero_exactly():
    for low, high in ((-1.3, 2.1), (0.0, 5.0), (-4.0, 0.0), (0.0, 0.0)):
        scale, zero = ranges.affine(low, high, 8)
        assert scale == float(np.float32(scale))
        assert (0 - low) / scale - zero < 0.51
        assert 0 <= zero <= 255


def test_mse_ranges_are_the_best_of_all_tried():
    values = np.random.default_rng(0).standard_t(2, 5000).clip(-60, 47)
    seen = ranges.ObservedRange(float(values.min()), float(values.max()), 1.0, values)

    def error(low, high):
        scale = (high - low) / 15
        zero = np.rint(-low / scale)
        return np.mean(((np.clip(np.rint(values / scale) + zero, 0, 15) - zero) * scale - values) ** 2)

    tried = [error(seen.low * share, seen.high * share) for share in ranges.SHRINKS]
    assert error(*ranges.limits(seen, "mse", 4)) == pytest.approx(min(tried), rel=1e-4)
    assert min(tried) < 0.7 * error(seen.low, seen.high)
    assert ranges.limits(seen, "minmax", 8) == (seen.low, seen.high)


def test_percentile_ranges_cut_off_as_many_values_as_onnx_runtime_does():
    values = np.random.default_rng(0).standard_normal(400_000)
    low, high = ranges.limits(
        ranges.ObservedRange(float(values.min()), float(values.max()), 1.0, values), "percentile", 8
    )
    assert (int(np.sum(values < low)), int(np.sum(values > high))) == (4, 4)


def test_weight_scales_by_brute_force():
    weight = torch.randn(6, 3, 3, 3, generator=torch.Generator().manual_seed(0)) ** 3
    whole = weight.flatten(1).abs().amax(1) / 7
    assert torch.allclose(ranges.weight_scales(weight, "minmax", 4), whole)
    best = ranges.weight_scales(weight, "mse", 4)
    for row in range(6):
        errors = {}
        for share in ranges.SHRINKS:
            scale = float(whole[row]) * share
            values = weight[row].double()
            errors[scale] = float((torch.clamp(torch.round(values / scale), -7, 7) * scale - values).square().sum())
        assert float(best[row]) == pytest.approx(min(errors, key=errors.get), rel=1e-5)


# the pass


@pytest.mark.parametrize("how", ranges.RANGES)
def test_codes_hardly_change(split, how):
    model = a_model(widths=[8, 16, 60])
    before = copy.deepcopy(model.net.state_dict())
    small = Int8(range=how, images=200)(model, split)
    assert flips(model, small, split) < 0.02
    assert all(torch.equal(value, before[name]) for name, value in model.net.state_dict().items())
    assert all(isinstance(layer, Int8Conv2d | Int8Linear) for layer in (small.net.encoder.conv1, small.net.head))


@pytest.mark.parametrize("encoder", ["lenet5", "resnet20", "smallconv", "lenet300"])
def test_file_and_float_form_are_bit_identical(encoder, split, tmp_path):
    options = {"resnet20": {"widths": [8, 8, 16]}, "lenet5": {"widths": [4, 6, 20]}}.get(encoder, {})
    model = Fold()(a_model(encoder, **options))
    small = Int8(images=64)(model, split)
    pixels = split.queries.pixels[:40]
    expected = outputs(small, pixels)
    save(small, tmp_path / "a.safetensors")
    again = load(tmp_path / "a.safetensors")
    assert np.array_equal(outputs(again, pixels), expected)
    save(Int8(images=64)(model, split), tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    plain = densified(small)
    assert np.array_equal(outputs(plain, pixels), expected)
    assert not any(isinstance(layer, Int8Conv2d | Int8Linear) for layer in plain.net.modules())
    tensors = read_dense(tmp_path / "a.safetensors")
    state = plain.net.state_dict()
    assert set(tensors) == set(state)
    assert all(np.array_equal(tensors[name], value.numpy()) for name, value in state.items())


def test_batches_and_threads_do_not_matter(split):
    small = Int8(images=64)(Fold()(a_model("resnet20", widths=[8, 8, 16])), split)
    pixels = split.queries.pixels[:33]
    assert np.array_equal(outputs(small, pixels, batch=33), outputs(small, pixels, batch=1))


def test_first_layer_and_head_keep_8_bits(split):
    small = Int8(bits=3, images=64)(a_model(), split)
    bits = {edit.layer: edit.bits for edit in small.edits}
    assert bits == {"encoder.conv1": 8, "encoder.conv2": 3, "encoder.fc1": 3, "head": 8}
    assert int(small.net.encoder.conv2.form.integers.abs().max()) <= 3
    assert small.net.head.quantization.step == 0


def test_bias_takes_up_the_mean_error(split):
    model = a_model(widths=[8, 16, 60])
    moved = []
    for correct in (False, True):
        small = Int8(bits=3, images=300, correct=correct)(model, split)
        pixels = split.train.pixels
        moved.append(float(np.abs((outputs(small, pixels) - outputs(model, pixels)).mean(0)).mean()))
    assert moved[1] < 0.5 * moved[0]


def test_exports_keep_the_layer_whole(split):
    small = Int8(images=64)(a_model(widths=[4, 6, 10]), split)
    program = torch.export.export(small.net, (torch.randn(1, *SPEC.shape),))
    calls = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert sum("int8_conv2d" in call for call in calls) == 2
    assert sum("int8_linear" in call for call in calls) == 2


def test_wrong_settings_and_edits_are_named(split):
    with pytest.raises(RecipeError, match="2 to 8"):
        Int8(bits=9)
    with pytest.raises(RecipeError, match="unknown range"):
        Int8(range="all")
    with pytest.raises(RecipeError, match="unknown rounding"):
        Int8(rounding="up")
    with pytest.raises(InputError, match="training images"):
        Int8()(a_model())
    good = edit_to_json(Quantized("head", 0.5, 3, 0.25))
    for change in ({"layer": "encoder"}, {"scale": 0.0}, {"zero": 256}, {"bits": 1}, {"step": float("inf")}):
        with pytest.raises(ModelFileError):
            rebuild(a_model().arch, [edit_from_json(good | change)])
    assert isinstance(rebuild(a_model().arch, [edit_from_json(good)]).head, Int8Linear)
    assert isinstance(an_integer_layer(nn.Conv2d(1, 2, 3)).dense(), FloatConv2d)


def test_layers_it_cannot_treat_are_named(split):
    model = a_model("resnet20", widths=[4, 4, 8])
    left = Int8(images=32, skip=("encoder.layer1.0.conv1",)).decide(model, Context(split)).data["skipped"]
    assert "batch norm" in left["encoder.bn1"]
    assert "skipped" in left["encoder.layer1.0.conv1"]


def test_ties_go_to_the_even_number():
    x = torch.tensor([0.25, 0.75, 1.25, 1.75, -0.25, -0.75])
    assert quantise(x, 0.5, 128, 255).tolist() == [0, 2, 2, 4, 0, -2]
    assert rescale(torch.tensor([[1.0], [3.0], [5.0]]), torch.tensor([0.5]), 0.25).flatten().tolist() == [0, 0.5, 0.5]
