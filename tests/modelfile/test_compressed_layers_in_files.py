"""Layers with arithmetic of their own through the model file: fresh processes, readers without torch, damaged files."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hashpress.compress.passes import PASSES
from hashpress.core.data import load_data
from hashpress.core.data.images import Split
from hashpress.core.errors import ModelFileError
from hashpress.core.inputs import ImageInput
from hashpress.core.model import HashModel
from hashpress.hashnets.build import default_arch, untrained
from hashpress.hashnets.retrieval.codes import outputs
from hashpress.modelfile import reader
from hashpress.modelfile.decode import weights
from hashpress.modelfile.file import load, save
from hashpress.modelfile.layers.densify import densified

CASES = [
    ("hashed", {}),
    ("hashed", {"transform": "none", "start": "random", "precision": "float32"}),
    ("fastfood", {"skip": []}),
    ("pq", {"sweeps": 1, "samples": 200, "width": 4, "entries": 16}),
    ("pq", {"sweeps": 0, "permute": True, "precision": "float32", "entries": 32, "width": {"conv": 5, "dense": 4}}),
]


@pytest.fixture(scope="module")
def digits() -> Split:
    return load_data("digits")


def made(name: str, settings: dict, split: Split) -> HashModel:
    arch = default_arch("lenet5", 12, ImageInput((1, 16, 16), (0.3,), (0.4,)), widths=(8, 12, 40))
    settings = {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()}
    model = untrained(arch, seed=1)
    if name == "pq" and settings["sweeps"]:
        large = np.repeat(np.repeat(split.train.pixels, 2, 2), 2, 3)
        split = Split(
            "twice", "B", type(split.train)(large, split.train.labels), split.queries, split.database, split.classes
        )
    return PASSES[name](**settings)(model, split, seed=5)


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_files_come_back_bit_for_bit(tmp_path: Path, digits: Split, name: str, settings: dict) -> None:
    model = made(name, settings, digits)
    save(model, tmp_path / "a")
    back = load(tmp_path / "a")
    assert back.edits == model.edits
    state = model.net.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in back.net.state_dict().items())
    save(back, tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    pixels = np.random.default_rng(0).integers(0, 256, (9, 1, 16, 16), dtype=np.uint8)
    assert np.array_equal(outputs(back, pixels), outputs(model, pixels))
    parts = reader.sections(tmp_path / "a")
    assert sum(part.bytes for part in parts) == (tmp_path / "a").stat().st_size


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_a_reader_without_torch_decodes_the_same_weights(
    tmp_path: Path, digits: Split, name: str, settings: dict
) -> None:
    model = made(name, settings, digits)
    save(model, tmp_path / "model")
    program = (
        "import sys, numpy\n"
        "from hashpress.modelfile.reader import read_dense\n"
        f"numpy.savez({str(tmp_path / 'dense.npz')!r}, **read_dense({str(tmp_path / 'model')!r}))\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
    expected = densified(model).net.state_dict()
    with np.load(tmp_path / "dense.npz") as found:
        assert set(found) == set(expected)
        for key, value in expected.items():
            assert np.array_equal(found[key], value.numpy()), key


def test_a_hashed_layer_is_its_values(tmp_path: Path, digits: Split) -> None:
    model = made("hashed", {"precision": "float16"}, digits)
    save(model, tmp_path / "model")
    values = {f"{edit.layer}.form.values": sum(edit.sizes) for edit in model.edits}
    parts = reader.sections(tmp_path / "model")
    for name, count in values.items():
        assert {part.kind for part in parts if part.name == name} <= {"values", "tables"}
        assert sum(part.bytes for part in parts if part.name == name) <= 2 * count + 1


def check_refused(path: Path, change: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read the file with its first edit changed, as a hostile writer would leave it."""
    read = reader.container.read

    def hostile(where: Path) -> reader.container.Container:
        file = read(where)
        manifest = json.loads(json.dumps(file.manifest))
        manifest["edits"][0] |= change
        return dataclasses.replace(file, manifest=manifest)

    monkeypatch.setattr(reader.container, "read", hostile)
    with pytest.raises(ModelFileError):
        reader.read_dense(path)
    with pytest.raises(ModelFileError):
        load(path)


HOSTILE = [
    ("hashed", {"shape": [1 << 20, 1 << 20], "sizes": [1]}),
    ("hashed", {"shape": [2, -5, 3, 3]}),
    ("hashed", {"shape": "no"}),
    ("hashed", {"sizes": [0, 1]}),
    ("hashed", {"sizes": [1 << 40]}),
    ("hashed", {"seed": -3}),
    ("hashed", {"seed": None}),
    ("pq", {"inputs": 1 << 40}),
    ("pq", {"inputs": "x"}),
]


@pytest.mark.parametrize(("name", "change"), HOSTILE)
def test_hostile_edits_are_refused(
    tmp_path: Path, digits: Split, name: str, change: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"sweeps": 0} if name == "pq" else {}
    save(made(name, settings, digits), tmp_path / "model")
    check_refused(tmp_path / "model", change, monkeypatch)


def test_indices_and_orders_that_point_nowhere_are_refused(tmp_path: Path, digits: Split) -> None:
    for field, value in (("indices", 31), ("order", 0)):
        model = made("pq", {"sweeps": 0, "permute": True, "entries": 16, "width": 4}, digits)
        form = model.net.get_submodule(model.edits[-1].layer).form
        getattr(form, field).fill_(value)
        save(model, tmp_path / field)
        for read in (reader.read_dense, load):
            with pytest.raises(ModelFileError, match=field if field == "order" else "codebook"):
                read(tmp_path / field)


def test_sizes_are_bounded_by_the_file() -> None:
    form = {
        "signs": np.ones((1, 4096), np.float32),
        "norms": np.ones(4096, np.float32),
        "gauss": np.ones((1, 4096), np.float32),
    }
    weights.check_encoding(form, {"seed": 0}, 4096 * 4096)
    with pytest.raises(ValueError, match="trusted"):
        weights.check_encoding(form, {"seed": 0}, 4096 * 4096 - 1)
