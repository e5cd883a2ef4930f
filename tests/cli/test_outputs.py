"""No command destroys its input, or replaces a file of another kind than it writes, before any work has begun."""

from __future__ import annotations

import json
import os
import shutil
from importlib import import_module

import numpy as np
import pytest
import torch
from hashpress.cli import demo
from hashpress.cli.main import run
from hashpress.core import outputs
from hashpress.core.errors import InputError
from program import refused
from reports import report
from safetensors.torch import save_file


def fake_bundle(path):
    path.mkdir()
    files = ("lib.so", "model.safetensors", "golden.npz")
    manifest = {"format": 2, "target": {}, "steps": [], "tools": {}, "files": dict.fromkeys(files)}
    (path / "manifest.json").write_text(json.dumps(manifest))
    for name in files:
        (path / name).write_text("x")


def other_folder(path):
    path.mkdir()
    (path / "manifest.json").write_text('{"name": "my web app", "files": {}}')


THINGS = {  # what may be at an output: its kind, the name of a file, and how it is made
    "model": (outputs.MODEL, "net.safetensors", lambda path, model: shutil.copy(model, path)),
    "training": (
        outputs.CHECKPOINT,
        "epochs.checkpoint",
        lambda path, _: save_file({"net/a": torch.zeros(3)}, path, {"hashpress-training": json.dumps({"run": "0"})}),
    ),
    "foreign": ("", "foreign.safetensors", lambda path, _: save_file({"a": torch.zeros(3)}, path)),
    "checkpoint": ("", "net.pth", lambda path, _: torch.save({"a": torch.zeros(3)}, path)),
    "bundle": (outputs.BUNDLE, "net.bundle", lambda path, _: fake_bundle(path)),
    "folder": ("", "folder", lambda path, _: other_folder(path)),
    "report": (outputs.REPORT, "report.json", lambda path, _: report().save(path)),
    "evaluation": (outputs.EVALUATION, "quality.json", lambda path, _: path.write_text('{"symmetric": {}}')),
    "sensitivity": (outputs.SENSITIVITY, "s.json", lambda path, _: path.write_text('{"points": [], "images": 3}')),
    "json": ("", "package.json", lambda path, _: path.write_text('{"name": "mine"}')),
    "page": (
        outputs.PAGE,
        "report.html",
        lambda path, _: path.write_text('<!doctype html>\n<meta name="generator" content="hashpress 1">'),
    ),
    "html": ("", "index.html", lambda path, _: path.write_text("<!doctype html>\n<title>my hashpress notes</title>")),
    "codes": (outputs.CODES, "codes.npy", lambda path, _: np.save(path, np.zeros((3, 2), np.uint8))),
    "array": ("", "features.npy", lambda path, _: np.save(path, np.zeros((3, 2), np.float32))),
    "images": ("", "images.npy", lambda path, _: np.save(path, np.zeros((3, 1, 8, 8), np.uint8))),
    "onnx": (outputs.ONNX, "net.onnx", lambda path, _: path.write_bytes(b"\x08\x0a\x12\x07pytorch")),
    "text": ("", "notes.txt", lambda path, _: path.write_text("precious")),
}
VERBS = {  # kind of output, and the command without it; {model} and so on are inputs that exist
    "train": (outputs.MODEL, "train --init {model} --data digits"),
    "import": (outputs.MODEL, "import {checkpoint}"),
    "compress": (outputs.MODEL, "compress {model} --recipe data-free"),
    "compile": (outputs.BUNDLE, "compile {model}"),
    "profile": (outputs.REPORT, "profile {bundle}"),
    "evaluate": (outputs.EVALUATION, "evaluate {model}"),
    "sensitivity": (outputs.SENSITIVITY, "sensitivity {model}"),
    "report": (outputs.PAGE, "report {report}"),
    "encode": (outputs.CODES, "encode {model} {images}"),
    "export": (outputs.ONNX, "export {model}"),
}
import_module("hashpress.cli.support.inputs")  # before a test replaces what it imports
WORK = (  # where the work of the commands begins
    "hashpress.modelfile.file.load",
    "hashpress.core.data.load_data",
    "hashpress.hashnets.importers.recognise.import_checkpoint",
    "hashpress.profiling.profile.profile",
    "hashpress.profiling.report.load_report",
)
BEGAN = "the work began"


@pytest.fixture
def place(tmp_path, model_file, monkeypatch):
    """A folder with one file of every kind; the work of every command ends with an error."""
    monkeypatch.chdir(tmp_path)
    for _, name, make in THINGS.values():
        make(tmp_path / name, model_file)

    def work(*_, **__):
        raise InputError(BEGAN)

    for name in WORK:
        monkeypatch.setattr(name, work)
    return tmp_path


def words(verb, output, **inputs):
    names = {thing: name for thing, (_, name, _) in THINGS.items()} | {"model": "input.safetensors"} | inputs
    return [*(part.format(**names) for part in VERBS[verb][1].split()), "-o", str(output)]


def everything(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("verb", VERBS)
def test_only_its_own_kind_is_replaced_unless_forced(place, model_file, capsys, verb):
    shutil.copy(model_file, place / "input.safetensors")
    inputs = {"images": "in.npy", "bundle": "in.bundle", "report": "in.json", "checkpoint": "in.pth"}
    shutil.copytree(place / "net.bundle", place / "in.bundle")
    for name, thing in (("in.npy", "images.npy"), ("in.json", "report.json"), ("in.pth", "net.pth")):
        shutil.copy(place / thing, place / name)
    before = everything(place)
    for kind, name, _ in THINGS.values():
        line = refused(capsys, *words(verb, name, **inputs))
        if verb == "train" and name == "epochs.checkpoint":
            assert "give the model another suffix" in line or "holds a training checkpoint" in line
            continue
        if kind == VERBS[verb][0]:
            assert BEGAN in line, name
        else:
            assert f"-o {name} " in line, name
            assert "name another" in line or "give a file in it" in line
            if name in ("notes.txt", "folder"):
                forced = refused(capsys, *words(verb, name, **inputs), "--force")
                assert (BEGAN in forced) == (name == "notes.txt"), "a folder is never replaced"
    assert everything(place) == before


@pytest.mark.parametrize("how", ["same", "relative", "absolute", "symbolic link", "hard link"])
@pytest.mark.parametrize("verb", VERBS)
def test_an_input_is_never_the_output(place, model_file, capsys, verb, how):
    shutil.copy(model_file, place / "input.safetensors")
    thing = {"import": "net.pth", "profile": "net.bundle/manifest.json", "report": "report.json"}
    source = place / thing.get(verb, "input.safetensors")
    output = {
        "same": source.relative_to(place),
        "relative": f"./folder/../{source.relative_to(place)}",
        "absolute": source,
    }
    if how.endswith("link"):
        (os.symlink if how == "symbolic link" else os.link)(source, place / "link")
    before = everything(place)
    line = refused(capsys, *words(verb, output.get(how, "link")), "--force")
    if verb == "profile" and how == "hard link":  # a report in a file that the bundle's manifest is as well
        assert BEGAN in line
    else:
        assert "that is read" in line or "lies in the bundle" in line
    assert everything(place) == before


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("encode input.safetensors images.npy -o images.npy", "is the input that is read"),
        ("train --data vectors:features.npy -o features.npy", "is the data that is read"),
        ("train --data imagefolder:folder -o folder/manifest.json", "is a file of the data folder"),
        ("evaluate net.safetensors --against input.safetensors -o input.safetensors", "is the original model that is"),
        ("profile net.bundle --quality quality.json -o quality.json", "is the evaluation that is read"),
        ("profile net.bundle -o net.bundle/report.json", "lies in the bundle"),
        ("sensitivity net.safetensors -o s.svg --plot s.svg", "the same file"),
        ("compress net.safetensors --recipe my.toml -o my.toml", "is the recipe that is read"),
        (
            "compress net.safetensors --recipe out.st.recipe.toml -o out.st",
            "also writes out.st.recipe.toml, which is the",
        ),
        ("compile net.bundle/model.safetensors -o net.bundle", "is a folder with the model net.bundle/model.saf"),
        (
            "train --init epochs.checkpoint -o epochs.st",
            "epochs.st, whose checkpoint epochs.checkpoint is the model of --init",
        ),
        ("train --data digits -o /dev/null", "is a device or a pipe"),
        ("export net.safetensors -o no/where.onnx", "there is no folder no; create it first"),
    ],
)
def test_inputs_of_every_sort_are_kept(place, model_file, capsys, command, message):
    shutil.copy(model_file, place / "input.safetensors")
    for name in ("my.toml", "out.st.recipe.toml"):
        (place / name).write_text("[[pass]]\nname = 'fold'\n")
    before = everything(place)
    assert message in refused(capsys, *command.split(), "--force")
    assert everything(place) == before


def test_a_bundle_with_files_of_somebody_else_is_not_replaced(place, model_file, capsys):
    (place / "net.bundle" / "notes.txt").write_text("precious")
    shutil.copy(model_file, place / "input.safetensors")
    assert "no whole bundle with nothing else in it" in refused(capsys, *words("compile", "net.bundle"), "--force")
    assert (place / "net.bundle" / "notes.txt").read_text() == "precious"


def test_the_demo_writes_into_no_folder_of_somebody_else(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(demo, "COMMANDS", "ls systems")
    monkeypatch.setattr(demo, "_end", lambda _: None)
    (tmp_path / "budget.toml").write_text("mine")
    assert "holds files that no demo wrote" in refused(capsys, "demo", "-o", tmp_path)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]
    for _ in range(2):
        assert run(["demo", "-o", str(tmp_path / "new")]) == 0
    assert run(["demo", "-o", str(tmp_path), "--force"]) == 0


def test_empty_files_may_be_replaced(tmp_path):
    (tmp_path / "empty").touch()
    (tmp_path / "folder").mkdir()
    outputs.check_output(tmp_path / "empty", outputs.MODEL, [])
    outputs.check_output(tmp_path / "folder", outputs.BUNDLE, [])
