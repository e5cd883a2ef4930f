"""Integer layers through the compiler: the library's outputs are torch's, bit for bit, on every target and in ONNX."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hashpress.compress.passes import Fold, Int8
from hashpress.core.data import load_data
from hashpress.core.errors import TargetError
from hashpress.core.inputs import ImageInput
from hashpress.core.model import HashModel
from hashpress.hashnets.build import build, default_arch, untrained
from hashpress.hashnets.retrieval.codes import outputs, pack
from hashpress.hashnets.training.schedule import Schedule
from hashpress.hashnets.training.train import train
from hashpress.modelfile.file import load, save
from hashpress.targets.compile import compile_model
from hashpress.targets.graph.export import export
from hashpress.targets.graph.import_relax import import_relax
from hashpress.targets.onnx import export_onnx, open_session
from hashpress.targets.runtime import Runtime
from hashpress.targets.table import resolve
from nets_for_targets import Compiled, settled
from torch import nn

SPEC = ImageInput((1, 16, 16), (0.3,), (0.35,))
NETS = {
    "lenet5": ("lenet5", {}),
    "small convolutions": ("smallconv", {"widths": [12, 12, 20, 60]}),
    "dense layers": ("lenet300", {}),
    "residual sums": ("resnet20", {"widths": [8, 8, 16]}),
}


@pytest.fixture(scope="module")
def split():
    return load_data("digits?size=16")


def integers(name: str, split, **settings) -> HashModel:
    encoder, options = NETS[name]
    arch = default_arch(encoder, 12, SPEC, **options)
    net = settled(build(arch, seed=1))
    return Int8(images=64, **settings)(Fold()(HashModel(net, arch)), split)


@pytest.mark.parametrize("target", ["host", pytest.param("c", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", NETS)
def test_outputs_are_torchs_bit_for_bit(name, target, split, tmp_path):
    model = integers(name, split)
    runtime = Runtime(compile_model(model, target, tmp_path / "b").path)
    assert runtime.verify().worst == 0
    pixels = split.queries.pixels[:60]
    assert np.array_equal(runtime.outputs(runtime.normalise(pixels)), outputs(model, pixels))


@pytest.mark.slow
def test_a_trained_lenet_has_its_codes_on_every_target(split, tmp_path):
    """Fewer bits and steps that are no multiples of each other; the golden codes come out of a file."""
    arch = default_arch("lenet5", 10, SPEC, widths=(8, 16, 60))
    model = train(untrained(arch, seed=1), split, "onehot", Schedule(epochs=1))
    save(Int8(bits=4, images=128)(model, split), tmp_path / "m")
    small = load(tmp_path / "m")
    pixels = split.queries.pixels
    for target in ("host", "c"):
        runtime = Runtime(compile_model(small, target, tmp_path / target).path)
        assert runtime.verify().differing == 0
        assert np.array_equal(runtime.encode(pixels), pack(outputs(small, pixels)))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "dense layers" else pytest.mark.slow) for name in NETS]
)
def test_dead_rows_are_torchs_bit_for_bit(name, split, tmp_path):
    """Rows with no weights, or hardly any, beside their biases: sums in float32 have to stay exact."""
    encoder, options = NETS[name]
    arch = default_arch(encoder, 12, SPEC, **options)
    model = Fold()(HashModel(settled(build(arch, seed=1)), arch))
    with torch.no_grad():
        for layer in model.net.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                for row, share in enumerate((0.0, 1e-6, 1e-9, 1e-3, 1e-4, 1e-5)):
                    layer.weight[row] *= share
                    layer.bias[row] = 0.7 * (-1) ** row
    small = Int8(images=64)(model, split)
    pixels = split.queries.pixels[:40]
    wanted, images = outputs(small, pixels), small.arch.input.normalise(pixels).numpy()
    for target in ("host", "c"):
        runtime = Runtime(compile_model(small, target, tmp_path / target).path)
        assert np.array_equal(runtime.outputs(runtime.normalise(pixels)), wanted)
    export_onnx(small, tmp_path / "m.onnx")
    assert np.array_equal(open_session(tmp_path / "m.onnx").run(["outputs"], {"images": images})[0], wanted)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name == "residual sums" else ()) for name in NETS]
)
def test_onnx_computes_the_same_numbers(name, split, tmp_path):
    model = integers(name, split)
    export_onnx(model, tmp_path / "m.onnx")
    pixels = split.queries.pixels[:30]
    images = model.arch.input.normalise(pixels).numpy()
    found = open_session(tmp_path / "m.onnx").run(["outputs"], {"images": images})[0]
    assert np.array_equal(found, outputs(model, pixels))


class Factors(nn.Module):
    """Constants around a convolution, and a factor for each channel before and behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 18, 3, padding=1)
        self.conv.weight.data = torch.randint(-9, 9, self.conv.weight.shape).float()
        self.conv.bias.data = torch.randint(-99, 99, (18,)).float()
        self.register_buffer("factor", torch.rand(18) + 0.5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        whole = torch.clamp(torch.round(images * 0.12345678806304932) + 3, 0, 15.5) - 3
        whole = 1.5 - (1.5 - whole)
        scaled = torch.round(self.conv(whole) * self.factor.view(-1, 1, 1)) * 3.0517578125e-05
        return (torch.relu(scaled) * self.factor.view(-1, 1, 1) * 1.1920928955078125e-07).flatten(1)


@pytest.mark.parametrize("target", ["host", "c"])
def test_constants_arrive_in_full(target, tmp_path):
    net = Factors()
    image = torch.cat([torch.arange(-8.0, 8.0) / 0.12345678806304932, torch.randn(48) * 20]).reshape(1, 1, 8, 8)
    found = Compiled(net, (1, 8, 8), resolve(target), tmp_path)(image)
    assert np.array_equal(found, net(image).detach().numpy().ravel())


def test_constants_that_are_tensors_are_still_refused():
    class Wrong(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images * torch.tensor([1.0, 2.0, 3.0, 4.0])

    with pytest.raises(TargetError, match="constant of shape"):
        import_relax(export(Wrong(), (1, 4, 4)))
