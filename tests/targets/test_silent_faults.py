"""Networks as foreign code writes them: the file, the bundle and torch agree, or the product says in words why not."""

from __future__ import annotations

import sys
import threading
from types import ModuleType

import numpy as np
import pytest
import torch
from hashpress.core.errors import ModelFileError, TargetError
from hashpress.core.inputs import ImageInput
from hashpress.core.model import HashModel
from hashpress.hashnets.build import default_arch, untrained
from hashpress.hashnets.retrieval.codes import outputs
from hashpress.modelfile.file import load, save
from hashpress.targets import compile as compiler
from hashpress.targets.bundle import open_bundle
from hashpress.targets.compile import compile_model
from hashpress.targets.graph.graph import Op
from hashpress.targets.runtime import Runtime
from torch import nn

SPEC = ImageInput((1, 8, 8), (0.3,), (0.35,))
PIXELS = np.random.default_rng(1).integers(0, 256, (24, 1, 8, 8), dtype=np.uint8)


@pytest.fixture
def foreign(monkeypatch):
    """A model around an encoder that a function makes, as ``module:function`` would give it."""

    def model(maker, seed: int = 3) -> HashModel:
        module = ModuleType("foreign_nets")
        module.net = lambda shape: maker()
        monkeypatch.setitem(sys.modules, "foreign_nets", module)
        return untrained(default_arch("foreign_nets:net", 16, SPEC), seed=seed, trust_code=True)

    return model


class Encoder(nn.Module):
    def __init__(self, *, in_place: bool = False, counts: bool = False, **buffers) -> None:
        super().__init__()
        self.in_place, self.counts = in_place, counts
        self.first, self.out = nn.Conv2d(1, 8, 3, padding=1), nn.Linear(512, 24)
        for name, (value, persistent) in buffers.items():
            self.register_buffer(name, value, persistent=persistent)
        if counts:
            self.register_buffer("seen", torch.zeros(1))

    def forward(self, images):
        images = images.sub_(0.5).mul_(2) if self.in_place else (images - 0.5) * 2
        if self.counts:
            self.seen += 1
            images = images + self.seen
        hidden = torch.relu(self.first(images))
        return torch.relu(self.out((hidden * self.window if hasattr(self, "window") else hidden).flatten(1)))


WINDOW = torch.linspace(0.5, 1.5, 8).view(8, 1, 1)


@pytest.mark.parametrize("persistent", [True, False])
def test_a_table_beside_the_state_dict_is_stored(foreign, persistent, tmp_path):
    model = foreign(lambda: Encoder(window=(WINDOW.clone(), persistent)))
    model.net.encoder.window.mul_(3)  # not what building the network gives
    save(model, tmp_path / "m.safetensors")
    again = load(tmp_path / "m.safetensors", trust_code=True)
    assert np.array_equal(outputs(again, PIXELS), outputs(model, PIXELS))
    runtime = Runtime(compile_model(model, "host", tmp_path / "b").path)
    np.testing.assert_allclose(runtime.outputs(runtime.normalise(PIXELS)), outputs(model, PIXELS), atol=1e-5)


TABLES = {
    "int64 beyond the streams": torch.tensor([2**63 - 1, -(2**63), 0]),
    "one int64 beyond the streams": torch.tensor([2**62 + 1]),
    "far apart": torch.tensor([-(2**61), 2**61, 5]),
    "uint8": torch.arange(256, dtype=torch.uint8),
    "int16": torch.arange(-5, 5, dtype=torch.int16),
    "bool": torch.tensor([[True], [False]]),
    "float64": torch.tensor([1 / 3, float("nan"), -0.0, float("inf")], dtype=torch.float64),
    "float16": torch.tensor([1 / 3, 65504.0], dtype=torch.float16),
    "float32": torch.tensor([1e-45, -0.0, float("nan"), float("-inf")]),
    "empty": torch.zeros(3, 0),
    "scalar": torch.tensor(7),
    "not contiguous": torch.arange(12.0).view(3, 4).T,
    "expanded": torch.ones(1).expand(5),
    "bfloat16": torch.ones(2, dtype=torch.bfloat16),
    "complex": torch.ones(2, dtype=torch.complex64),
    "uint16": torch.ones(2, dtype=torch.uint16),
    "sparse": torch.eye(3).to_sparse(),
    "nine axes": torch.randn(*[1] * 8, 2),
    "constant and huge": torch.zeros(4_000_000, dtype=torch.int64),
}
REFUSED = {"bfloat16", "complex", "uint16", "sparse", "nine axes", "constant and huge"}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("persistent", [True, False])
def test_what_save_accepts_load_gives_back(foreign, name, persistent, tmp_path):
    value = TABLES[name]
    model = foreign(lambda: Encoder(table=(value, persistent)))
    if name in REFUSED:
        with pytest.raises(ModelFileError):
            save(model, tmp_path / "m.safetensors")
        assert list(tmp_path.iterdir()) == []
        return
    save(model, tmp_path / "m.safetensors")
    again = load(tmp_path / "m.safetensors", trust_code=True).net.encoder.table
    assert again.dtype == value.dtype
    assert again.contiguous().numpy().tobytes() == value.contiguous().numpy().tobytes()


def test_a_call_changes_neither_its_input_nor_the_network(foreign):
    for settings in ({"in_place": True}, {"counts": True}):
        net = foreign(lambda settings=settings: Encoder(**settings)).net
        images = torch.randn(3, 1, 8, 8)
        before, state = images.clone(), {name: value.clone() for name, value in net.state_dict().items()}
        with torch.no_grad():
            assert torch.equal(net(images), net(images))
        with torch.inference_mode():
            net(images)
        assert torch.equal(images, before)
        assert all(torch.equal(state[name], value) for name, value in net.state_dict().items())


def test_one_runtime_serves_several_threads(foreign, tmp_path):
    path = compile_model(foreign(Encoder), "host", tmp_path / "b").path
    runtime = Runtime(path, threads=2)
    sets = [np.random.default_rng(k).integers(0, 256, (150, 1, 8, 8), dtype=np.uint8) for k in range(4)]
    wanted, wrong = [runtime.encode(pixels) for pixels in sets], []

    def work(number: int) -> None:
        own = Runtime(path)  # opening and decoding at once, too
        for _ in range(10):
            found = [there.encode(sets[number]) for there in (runtime, own)]
            wrong.extend(int((codes != wanted[number]).any(1).sum()) for codes in found)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [0] * 80


def test_codes_that_differ_from_torchs_are_never_written(foreign, monkeypatch, tmp_path):
    model = foreign(Encoder)
    good = compile_model(model, "host", tmp_path / "b")
    assert open_bundle(good.path).manifest["checked"] == {"device": "local", "bits": 64, "differing": 0}
    before = {file.name: file.read_bytes() for file in good.path.iterdir()}
    real = compiler.fuse

    def wrong(graph):
        graph = real(graph)
        nodes = [
            node.changed(epilogue=(Op("shift", (0.5,)), *node.epilogue)) if node.name == "encoder.first" else node
            for node in graph.nodes
        ]
        return type(graph)(graph.input, graph.output, tuple(nodes), graph.sources, graph.layers)

    monkeypatch.setattr(compiler, "fuse", wrong)
    with pytest.raises(TargetError, match=r"first layer that differs is encoder.*step encoder\.first.*torch gives"):
        compile_model(model, "host", tmp_path / "b")
    assert {file.name: file.read_bytes() for file in good.path.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_a_library_that_cannot_run_here_is_said_to_be_unchecked(foreign, monkeypatch, tmp_path):
    monkeypatch.setattr("hashpress.targets.bundle.cpu_flags", frozenset)
    model = foreign(Encoder)
    checked = compile_model(model, "host", tmp_path / "b").manifest["checked"]
    assert checked["device"] is None
    assert checked["why"].startswith("lib.so needs ")
