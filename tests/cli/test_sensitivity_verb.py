"""``hashpress sensitivity``: its table, JSON and plot, and what it says before and after the work."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hashpress.cli.main import run
from hashpress.compress.sensitivity import plot as drawing
from hashpress.compress.sensitivity import sensitivity as package
from hashpress.compress.sensitivity.probes import AMOUNTS
from hashpress.core.errors import InputError
from hashpress.modelfile.file import save
from small_models import a_model


def test_the_verb(tmp_path, capsys):
    save(a_model(widths=[4, 6, 20]), tmp_path / "m.safetensors")
    arguments = [
        "sensitivity",
        str(tmp_path / "m.safetensors"),
        "--data",
        "digits?size=16&limit=100",
        "--passes",
        "prune",
    ]
    arguments += ["--images", "20", "-o", str(tmp_path / "s.json"), "--plot", str(tmp_path / "s.svg")]
    assert run(arguments) == 0
    assert "density 0.05" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "s.json").read_text())["points"]) == 4 * len(AMOUNTS["prune"])
    assert run([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 16, "a fifth of the 80 training images is held out"


@pytest.fixture
def model_file(tmp_path):
    save(a_model(widths=[4, 6, 20]), tmp_path / "m.safetensors")
    return tmp_path / "m.safetensors"


DATA = ("--data", "digits?size=16&limit=100", "--images", "10")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "{folder}"], "is a folder; give a file in it"),
        (["-o", "{folder}/no/s.json"], "there is no folder {folder}/no; create it first"),
        (["--plot", "{folder}/no/s.svg"], "there is no folder {folder}/no; create it first"),
        (["--plot", "{folder}/s.gif"], "a plot is .svg, .png, .pdf, not .gif"),
        (["-o", "{folder}/locked/s.json"], "is not writable; choose another"),
    ],
)
def test_places_are_checked_before_the_work(arguments, message, model_file, tmp_path, monkeypatch, capsys):
    (tmp_path / "locked").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "locked")
    monkeypatch.setattr(package, "sensitivity", lambda *_, **__: pytest.fail("the work was started"))
    arguments = [argument.format(folder=tmp_path) for argument in arguments]
    assert run(["sensitivity", str(model_file), *DATA, *arguments]) == 2
    assert message.format(folder=tmp_path) in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("json_too", [False, True])
def test_nothing_to_plot_is_a_message(json_too, model_file, tmp_path, capsys):
    more = ["--passes", "cp", "--layers", "head", "-o", str(tmp_path / "s.json"), "--plot", str(tmp_path / "s.svg")]
    assert run(["sensitivity", str(model_file), *DATA, *more, *(["--json"] if json_too else [])]) == 0
    out, err = capsys.readouterr()
    assert "no layer could be probed" in " ".join((err if json_too else out).split())
    found = json.loads((tmp_path / "s.json").read_text())
    assert found["skipped"] == {"cp head": "a dense layer has no spatial axes; lowrank treats it"}
    assert not (tmp_path / "s.svg").exists()
    if json_too:
        assert json.loads(out) == found
    else:
        assert "skipped: cp head" in out


def test_the_table_is_there_when_writing_fails(model_file, tmp_path, monkeypatch, capsys):
    def full(*_):
        raise InputError("no space left")

    monkeypatch.setattr(drawing, "plot", full)
    more = ["--passes", "prune", "--layers", "head", "--plot", str(tmp_path / "s.svg")]
    assert run(["sensitivity", str(model_file), *DATA, *more]) == 2
    out, err = capsys.readouterr()
    assert "density 0.05" in out
    assert "no space left" in err
