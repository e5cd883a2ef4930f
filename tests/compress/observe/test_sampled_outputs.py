"""Samples of several layers from one run are those of a run for each; layers that decode do so once meanwhile."""

import numpy as np
import pytest
import torch
from hashpress.compress.observe import layer_io
from hashpress.compress.observe.hooks import calls
from hashpress.compress.observe.layer_io import SampledOutputs
from hashpress.compress.observe.sampling import Places
from hashpress.compress.passes import ProductQuantize
from hashpress.core.inputs import ImageInput
from hashpress.modelfile.layers.base import CompressedConv2d
from hashpress.modelfile.layers.densify import decoded_once
from torch import nn

SPEC = ImageInput((3, 12, 10), (0.5,) * 3, (0.25,) * 3)
PIXELS = np.random.default_rng(0).integers(0, 256, (70, 3, 12, 10), dtype=np.uint8)
PATHS = ["0", "2", "5", "6"]
SEEDS = {"0": 5, "2": 6, "5": 7, "6": 7}


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 3, stride=2), nn.ReLU(),
        nn.Flatten(), nn.Linear(80, 16), nn.Linear(16, 5),
    ).eval()  # fmt: skip


def sampled_by_indexing(net, path):
    """Return a layer's samples as plain indexing of its outputs gives them."""
    given = []
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        layer = net.get_submodule(path)
        patch.setattr(layer, "forward", lambda x, run=layer.forward: given.append(run(x)) or given[-1])
        for start in range(0, 70, 50):
            net(SPEC.normalise(PIXELS[start : start + 50]))
    if path in ("5", "6"):
        return torch.cat(given)
    points = -(-max(4 * net.get_submodule(path).weight[0].numel(), 4096) // 70)
    random = torch.Generator().manual_seed(SEEDS[path])
    rows = []
    for part in given:
        flat = part.flatten(2).transpose(1, 2)  # (N, L, O)
        places = torch.rand(flat.shape[:2], generator=random).argsort(1)[:, :points]
        rows.append(torch.stack([image[at] for image, at in zip(flat, places, strict=True)]).flatten(0, 1))
    return torch.cat(rows)


def runs(net):
    """Return a list that grows by one with each batch that a network is shown."""
    shown = []
    net.register_forward_pre_hook(lambda *_: shown.append(1))
    return shown


@pytest.mark.parametrize(("kept", "batches"), [(12 << 20, 2), (1, 8), (70 * 16 + 70 * 5, 6)])
def test_samples_are_the_same_however_many_layers_share_a_run(net, monkeypatch, kept, batches):
    monkeypatch.setattr(layer_io, "KEPT", kept)
    called = calls(net, PATHS, SPEC)
    shown = runs(net)
    outputs = SampledOutputs(net, called, PIXELS, SPEC, SEEDS)
    found = {path: torch.cat(list(outputs.of(path))) for path in PATHS}
    assert len(shown) == batches
    assert not outputs.kept
    for path in PATHS:
        assert torch.equal(found[path], sampled_by_indexing(net, path)), path


def test_places_are_spread_over_the_output_and_never_drawn_twice(net):
    places = Places(net[0], 70, 3)
    image, row, column = places.draw(4, 12, 10)
    drawn = list(zip(image.tolist(), row.tolist(), column.tolist(), strict=True))
    assert len(set(drawn)) == len(drawn) == 4 * places.points
    assert set(row.tolist()) == set(range(12))
    assert set(column.tolist()) == set(range(10))


def test_a_layer_that_is_called_twice_is_sampled_at_its_first_call():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, images):
            return self.layer(self.layer(images.flatten(1)[:, :3]))

    net = Twice().eval()
    outputs = SampledOutputs(net, calls(net, ["layer"], SPEC), PIXELS, SPEC, {"layer": 0})
    with torch.no_grad():
        wanted = net.layer(SPEC.normalise(PIXELS).flatten(1)[:, :3])
    assert torch.equal(torch.cat(list(outputs.of("layer"))), wanted)


def test_layers_decode_once_and_are_put_back(monkeypatch):
    from small_models import a_model, some_images  # noqa: PLC0415  what only this test needs

    model = a_model(widths=[4, 6, 20])
    small = ProductQuantize(sweeps=0)(model)
    net, pixels = small.net.train(), some_images().pixels
    images = model.arch.input.normalise(pixels)
    with torch.no_grad():
        before = net(images)
    counted = []
    kinds = {type(layer.form) for layer in net.modules() if isinstance(layer, CompressedConv2d)}
    for kind in kinds:
        monkeypatch.setattr(kind, "forward", lambda form, run=kind.forward: counted.append(1) or run(form))
    own = dict(net.named_modules())
    with torch.no_grad(), decoded_once(net):
        decoded = len(counted)
        assert torch.equal(net(images), before)
        assert torch.equal(net(images), before)
        assert len(counted) == decoded > 0
    assert dict(net.named_modules()) == own
    with pytest.raises(RuntimeError, match="failed"), decoded_once(net):
        raise RuntimeError("failed")
    assert dict(net.named_modules()) == own
