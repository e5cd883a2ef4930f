"""Integer layers stay in int32, whatever the rows: dead ones, nearly dead ones, accumulator_dtype ones; oracle: sums in numpy's int64."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from hashpress.compress.integers import ranges
from hashpress.compress.integers.adaround import QuantizationGrid, SoftRounding, nearest
from hashpress.compress.passes import Int8, Prune
from hashpress.compress.thresholds import shift
from hashpress.core.data import load_data
from hashpress.core.errors import ModelFileError
from hashpress.core.inputs import ImageInput
from hashpress.core.model import HashModel
from hashpress.hashnets.build import default_arch, untrained
from hashpress.hashnets.retrieval.codes import outputs
from hashpress.modelfile import reader
from hashpress.modelfile.file import load, save
from hashpress.modelfile.layers.densify import densified
from hashpress.modelfile.layers.int8 import Int8Conv2d, Int8Linear, Quantized, accumulator_dtype, put_bias
from small_models import a_model
from torch import nn
from torch.nn import functional

SHARES = (0.0, 1e-9, 1e-6, 1e-3)  # what is left of the first rows of every layer


@pytest.fixture(scope="module")
def split():
    return load_data("digits?size=16&limit=200")


def with_dead_rows(seed=1):
    model = a_model("lenet5", seed=seed, widths=[6, 8, 20])
    with torch.no_grad():
        for layer in model.net.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                for row, share in enumerate(SHARES):
                    layer.weight[row] *= share
                    layer.bias[row] = 0.7 * (-1) ** row
    return model


def integer_layers(model):
    return {path: layer for path, layer in model.net.named_modules() if isinstance(layer, Int8Conv2d | Int8Linear)}


def farthest(layer):
    """How far from zero an accumulator can get, by exact numbers of numpy."""
    rows = np.abs(layer.form.integers.numpy().reshape(len(layer.bias), -1).astype(np.int64)).sum(1)
    bias = layer.bias.double().numpy()
    assert np.array_equal(bias, np.rint(bias))
    return int((np.abs(bias).astype(np.int64) + rows * 255).max())


def accumulated(layer, x, kind):
    """Outputs by sums in numpy's integers of ``kind``, which wrap around where they are too narrow."""
    how = layer.quantization
    q = np.rint(x.numpy() * (np.float32(1) / np.float32(how.scale))) + how.zero
    q = (np.clip(q, 0, 255) - how.zero).astype(kind)
    integers = layer.form.integers.numpy().reshape(len(layer.bias), -1).astype(kind)
    bias = layer.bias.double().numpy().astype(np.int64).astype(kind)
    if isinstance(layer, Int8Conv2d):
        columns = functional.unfold(torch.from_numpy(q.astype(np.float64)), layer.kernel_size, padding=layer.padding)
        acc = np.matmul(integers, columns.numpy().astype(kind)) + bias[:, None]
        y = acc.astype(np.float32) * layer.multiplier.numpy()[:, None]
    else:
        y = (q @ integers.T + bias).astype(np.float32) * layer.multiplier.numpy()
    return np.rint(y) * np.float32(how.step) if how.step else y


@pytest.mark.parametrize(
    "settings", [{}, {"rounding": "obs", "bits": 4}, {"rounding": "learned", "steps": 20, "lr": 0.3}]
)
@pytest.mark.parametrize("dead", [True, False])
def test_no_sum_leaves_int32(split, settings, dead):
    model = with_dead_rows() if dead else Prune(density=0.02)(a_model(widths=[6, 8, 20]))
    small = Int8(images=60, **settings)(model, split)
    generator = torch.Generator().manual_seed(0)
    for layer in integer_layers(small).values():
        assert farthest(layer) < 1 << 31
        shape = (3, layer.in_channels, 9, 9) if isinstance(layer, Int8Conv2d) else (3, layer.in_features)
        x = torch.randn(shape, generator=generator) * 200 * layer.quantization.scale
        given = layer(x).flatten(2).numpy() if isinstance(layer, Int8Conv2d) else layer(x).numpy()
        assert np.array_equal(given, accumulated(layer, x, np.int64))
        assert np.array_equal(given, accumulated(layer, x, np.int32))
    before, after = outputs(model, split.queries.pixels), outputs(small, split.queries.pixels)
    assert np.abs(after - before).max() < (0.06 if settings.get("bits", 8) == 8 else 0.5) * np.abs(before).max()


def test_rows_with_weights_keep_their_steps():
    draw = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(8, 40, generator=draw), torch.randn(8, generator=draw)
    steps = ranges.weight_scales(weight, "mse", 8)
    assert torch.equal(ranges.scales_without_overflow(steps, weight, bias, 0.02, 8), steps)
    assert torch.equal(ranges.scales_without_overflow(steps, weight, None, 1e-12, 8), steps)
    weight[3] = 0
    steps = ranges.weight_scales(weight, "mse", 8)
    found = ranges.scales_without_overflow(steps, weight, bias, 0.02, 8)
    assert (found != steps).tolist() == [row == 3 for row in range(8)]
    assert abs(float(bias[3])) / (0.02 * float(found[3])) == pytest.approx(2**23, rel=1e-6)


def test_sums_of_very_wide_rows_fit():
    """100,000 weights at the end of their range: 127 * 255 * 100,000 is beyond int32."""
    weight = torch.full((2, 100_000), 0.5)
    weight[1] = torch.linspace(-1e-3, 1, 100_000) ** 9
    steps = ranges.weight_scales(weight, "minmax", 8)
    found = ranges.scales_without_overflow(steps, weight, torch.zeros(2), 0.02, 8)
    for row, kept in ((0, False), (1, True)):
        whole = nearest(weight, QuantizationGrid(0.02, 0, 255, found, 127))[row].abs() + 1  # one more, as learning may
        assert float(whole.double().sum()) * 255 <= 2**30
        assert torch.equal(found[row], steps[row]) == kept


def test_a_bias_goes_as_far_as_there_is_room():
    layer = Int8Linear(nn.Linear(3, 4), Quantized("layer", 0.5, 0, 0.0))
    layer.form.integers.copy_(torch.tensor([[-128, 127, 1], [0, 0, 0], [1, 1, 1], [127, 127, 127]]))
    put_bias(layer, torch.tensor([1e12, -1e17, 1234.0, -(2.0**24)]))
    assert farthest(layer) < 1 << 31
    assert layer.bias.tolist()[2:] == [1234, -(2**24)]
    assert min(layer.bias[:2].abs().tolist()) > (1 << 31) - 70_000
    layer.multiplier.fill_(1e-9)
    shift(layer, torch.full((4,), 1e6, dtype=torch.float64))  # a threshold moves 10^15 units
    assert farthest(layer) < 1 << 31


def test_a_learned_bias_is_held():
    layer = nn.Linear(3, 2)
    grid = QuantizationGrid(0.1, 0, 255, torch.tensor([0.5, 1e-14]), 127)
    soft = SoftRounding(layer, grid, nearest(layer.weight.detach(), grid), torch.tensor([0.3, 0.3]))
    first, second = soft.limited_bias().tolist()
    assert first == float(np.float32(0.3))
    assert 0 < second <= 2**24 * 0.1 * 1e-14
    soft(torch.ones(1, 3)).sum().backward()
    assert soft.bias.grad.tolist() == [1, 0]


def test_the_smallest_whole_number_counts_for_exactness():
    """-128 has no opposite in 8 bits: 515 of them with 255 are beyond what float32 adds up exactly."""
    integers = torch.full((1, 515), -128, dtype=torch.int8)
    assert accumulator_dtype(integers, torch.zeros(1), 255) == torch.float64
    assert accumulator_dtype(integers[:, :514], torch.zeros(1), 255) == torch.float32


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (2.0**31, "overflows int32"),
        (0.5, "not integers"),
    ],
)
def test_files_beyond_int32_are_refused(split, tmp_path, value, message):
    small = Int8(images=30)(a_model(widths=[4, 6, 10]), split)
    room = (1 << 31) - 1 - farthest(small.net.head)
    with torch.no_grad():
        small.net.head.bias[2] = float(room // 1000 * 999) if value == 2.0**31 else 0.0
    save(small, tmp_path / "good")
    load(tmp_path / "good")
    small.net.head.bias.data[2] = value
    save(small, tmp_path / "bad")
    for read in (load, reader.read_dense):
        with pytest.raises(ModelFileError, match=rf"head\.form\.integers: .*{message}") as caught:
            read(tmp_path / "bad")
        assert "\n" not in str(caught.value)


# a weight that is read elsewhere


class Mirror(nn.Module):
    """A layer and, by its own weight, the way back."""

    def __init__(self):
        super().__init__()
        self.there, self.last = nn.Linear(256, 24), nn.Linear(256, 32)

    def forward(self, x):
        back = functional.linear(torch.relu(self.there(x.flatten(1))), self.there.weight.t())
        return torch.relu(self.last(back))


@pytest.fixture
def mirror(split, monkeypatch):
    module = ModuleType("nets_mirror")
    module.make = lambda _shape: Mirror()
    monkeypatch.setitem(sys.modules, "nets_mirror", module)
    return untrained(default_arch("nets_mirror:make", 8, ImageInput.of(split)), seed=3, trust_code=True)


@pytest.mark.parametrize("settings", [{}, {"rounding": "obs"}, {"rounding": "learned", "steps": 30, "lr": 0.03}])
def test_a_weight_that_is_read_elsewhere_is_in_real_numbers(mirror: HashModel, split, settings):
    small = Int8(images=100, range="minmax", **settings)(mirror, split)
    before, after = outputs(mirror, split.queries.pixels), outputs(small, split.queries.pixels)
    assert np.abs(after - before).max() < 0.03 * np.abs(before).max()
    assert np.array_equal(outputs(densified(small), split.queries.pixels), after)
    for path, layer in integer_layers(small).items():
        real = mirror.net.get_submodule(path).weight.detach()
        steps = real.abs().amax(1) / 127
        for made in (layer, layer.dense()):
            torch.testing.assert_close(made.weight, layer.form() * steps[:, None], rtol=1e-5, atol=0)
        assert torch.equal(layer.dense().state_dict()["weight"], layer.form())


def test_a_convolution_gives_its_weight_in_real_numbers(split):
    model = a_model(widths=[4, 6, 10])
    layer = Int8(images=60, range="minmax")(model, split).net.encoder.conv2
    real = model.net.encoder.conv2.weight.detach()
    steps = real.flatten(1).abs().amax(1) / 127
    for made in (layer, layer.dense()):
        assert ((made.weight - real).abs() <= 0.501 * steps[:, None, None, None]).all()
