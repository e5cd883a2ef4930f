"""The model file: what is saved comes back bit for bit, in torch and without it, small, and the same bytes each time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch
from hashpress.compress.passes import Fold, Prune, Share
from hashpress.core.errors import ModelFileError
from hashpress.core.inputs import ImageInput
from hashpress.core.model import HashModel, Step
from hashpress.hashnets.build import build, default_arch, untrained
from hashpress.modelfile import container, file, reader
from hashpress.modelfile.edits import EDITS, Folded, Pruned, edit_from_json, edit_to_json, rebuild
from hashpress.modelfile.layers.densify import densified
from hashpress.modelfile.layers.shared import Shared

SMALL = ImageInput((1, 16, 16), (0.5,), (0.25,))


def model_of(encoder: str = "lenet5", bits: int = 12, seed: int = 0) -> HashModel:
    arch = default_arch(encoder, bits, SMALL)
    return HashModel(
        build(arch, seed=seed).eval(), arch, history=(Step("train", {"epochs": 3}, 7, after={"loss": 0.5}),)
    )


def squeezed(model: HashModel) -> HashModel:
    for step in (Fold(), Prune(density={"conv": 0.5, "dense": 0.1}), Share(bits=3, scaled=True)):
        model = step(model)
    return model


def states_equal(one: HashModel, other: HashModel) -> bool:
    first, second = one.net.state_dict(), other.net.state_dict()
    return list(first) == list(second) and all(
        a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(first.values(), second.values(), strict=True)
    )


@pytest.mark.parametrize("encoder", ["lenet300", "lenet5", "smallconv", "resnet20"])
@pytest.mark.parametrize("small", [False, True])
def test_save_and_load_keep_every_bit(tmp_path: Path, encoder: str, small: bool) -> None:
    model = model_of(encoder)
    model = squeezed(model) if small else model
    path = tmp_path / "model.safetensors"
    file.save(model, path)
    back = file.load(path)
    assert states_equal(model, back)
    assert (back.arch.to_json(), back.edits, back.history) == (model.arch.to_json(), model.edits, model.history)
    assert not back.net.training
    assert path.stat().st_size == file.file_size(model)
    images = torch.randn(3, *SMALL.shape)
    with torch.no_grad():
        assert torch.equal(model.net(images), back.net(images))
    file.save(back, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("small", [False, True])
def test_the_reader_gives_the_dense_state_dict_without_torch(tmp_path: Path, small: bool) -> None:
    model = squeezed(model_of("resnet20")) if small else model_of("resnet20")
    path = tmp_path / "model.safetensors"
    file.save(model, path)
    code = (
        "import sys, numpy as np\n"
        "from hashpress.modelfile import reader\n"
        f"np.savez({str(tmp_path / 'dense.npz')!r}, **reader.read_dense({str(path)!r}))\n"
        f"assert reader.read_manifest({str(path)!r})['arch']['encoder'] == 'resnet20'\n"
        f"assert reader.sections({str(path)!r})\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    dense = np.load(tmp_path / "dense.npz")
    wanted = densified(model).net.state_dict()
    assert set(dense) == set(wanted)
    for name, value in wanted.items():
        np.testing.assert_array_equal(dense[name], value.numpy(), err_msg=name)


def test_densified_layers_are_plain_and_give_the_same_outputs() -> None:
    model = squeezed(model_of())
    plain = densified(model)
    images = torch.randn(2, *SMALL.shape)
    with torch.no_grad():
        assert torch.equal(model.net(images), plain.net(images))
    assert {type(layer).__module__ for layer in plain.net.modules() if not list(layer.children())} <= {
        "torch.nn.modules.conv", "torch.nn.modules.linear",
    }  # fmt: skip


@pytest.mark.parametrize("small", [False, True])
def test_sections_add_up_and_are_of_the_right_class(tmp_path: Path, small: bool) -> None:
    model = squeezed(model_of()) if small else model_of()
    path = tmp_path / "model.safetensors"
    file.save(model, path)
    parts = reader.sections(path)
    assert sum(part.bytes for part in parts) == path.stat().st_size
    assert all(part.bytes >= 0 for part in parts)
    sizes = {kind: sum(part.bytes for part in parts if part.kind == kind) for kind in reader.Kind.__args__}
    assert sizes["metadata"] < 1200
    assert sizes["values"] > 0.8 * path.stat().st_size - 3000
    assert bool(sizes["codebooks"]) == small


def test_the_file_is_a_safetensors_file_that_others_open(tmp_path: Path) -> None:
    model = model_of()
    file.save(model, tmp_path / "model.safetensors")
    tensors = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(tensors["encoder.fc1.weight"], model.net.encoder.fc1.weight.detach().numpy())


def test_overhead_of_many_layers_is_small(tmp_path: Path) -> None:
    """ResNet-20 with everything at zero: what remains is names, tables and headers."""
    model = Fold()(model_of("resnet20", 48))
    with torch.no_grad():
        for value in model.net.parameters():
            value.zero_()
    file.save(model, tmp_path / "zero.safetensors")
    assert (tmp_path / "zero.safetensors").stat().st_size < 1500


def test_a_network_that_is_not_what_it_says_is_not_saved(tmp_path: Path) -> None:
    model = model_of()
    model.net.head = torch.nn.Linear(500, 11)
    with pytest.raises(
        ModelFileError, match=r"head\.weight: expected F32 of shape \(12, 500\), the network has .*\(11, 500\)"
    ):
        file.save(model, tmp_path / "model.safetensors")
    assert not list(tmp_path.iterdir())


def test_edits_round_trip_and_are_strict() -> None:
    edits = [Folded("a.bn", "a.conv"), Pruned(("a", "b")), Shared("a", 17, scaled=True, half=False), Shared("b", 3)]
    for edit in edits:
        assert edit_from_json(json.loads(json.dumps(edit_to_json(edit)))) == edit
    bad = [
        ({"kind": "share", "layer": "a"}, "unknown edit 'share'; did you mean 'shared'"),
        ({"kind": "shared", "layer": "a"}, "needs the field entries"),
        ({"kind": "shared", "layer": "a", "entries": True}, "entries must be int"),
        ({"kind": "shared", "layer": "a", "entries": 3, "more": 1}, "no field 'more'"),
        ({"kind": "pruned", "layers": "a"}, "layers must be tuple"),
        ({"kind": "pruned", "layers": ["a", 1]}, "layers must be tuple"),
        ("shared", "must be an object with a kind"),
    ]
    for value, message in bad:
        with pytest.raises(ModelFileError, match=message):
            edit_from_json(value)


def test_rebuild_is_empty_and_has_the_names_of_the_network() -> None:
    model = squeezed(model_of("resnet20"))
    empty = rebuild(model.arch, model.edits)
    assert all(value.is_meta for value in empty.state_dict().values())
    wanted = {name: (value.shape, value.dtype) for name, value in model.net.state_dict().items()}
    assert {name: (value.shape, value.dtype) for name, value in empty.state_dict().items()} == wanted
    assert set(EDITS) >= {"folded", "pruned", "shared"}


def test_users_code_runs_only_when_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mynet.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self, shape):\n"
        "        super().__init__(); self.fc = torch.nn.Linear(256, 20); self.width = 20\n"
        "    def forward(self, x): return self.fc(x.flatten(1)).relu()\n"
        "def make(shape): return Net(shape)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    arch = default_arch("mynet:make", 8, SMALL)
    model = untrained(arch, trust_code=True)
    file.save(model, tmp_path / "m.safetensors")
    with pytest.raises(ModelFileError, match="trust_code"):
        file.load(tmp_path / "m.safetensors")
    assert states_equal(file.load(tmp_path / "m.safetensors", trust_code=True), model)


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = container.content({}, {}, b"abc")

    def full() -> object:
        yield parts[0]
        raise OSError(28, "No space left on device")

    with pytest.raises(Exception, match="No space left"):
        container.write(tmp_path / "m.safetensors", full())
    assert not list(tmp_path.iterdir())
