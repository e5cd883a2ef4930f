"""Systems, encoders and data sources of other people: what the pages show is what runs."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from code_of_page import code_of_page, commands_of_page
from hashpress.cli.main import run
from hashpress.core.data import load_data
from hashpress.core.errors import DataError, InputError
from hashpress.hashnets.systems import find_system
from hashpress.modelfile.file import load
from program import refused

DOCS = Path(__file__).parents[2] / "docs"
SHORTER = "--epochs 2 --bits 12 --batch 64"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Write the files of a page into the working directory, from which they can be imported."""

    def write(page):
        for name, text in code_of_page(DOCS / page).items():
            file = tmp_path / name
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
        return tmp_path

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield write
    for name in [name for name in sys.modules if name.split(".")[0] == "my_hashing"]:
        del sys.modules[name]


def script(folder, name):
    code = f"exec(open({name!r}).read())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def program(page):
    for command in commands_of_page(DOCS / page):
        words = shlex.split(command)
        assert run([*words, *SHORTER.split()] if words[0] == "train" else words) == 0


def test_a_system(package, capsys):
    folder = package("write-a-system.md")
    program("write-a-system.md")
    step = load(folder / "model.safetensors").history[-1]
    assert step.settings["system"] == "my_hashing.triplet:Triplet"
    assert step.settings["margin"] == 0.4
    capsys.readouterr()
    command = "train --system my_hashing.triplet:Triplet --epochs 1 -o n.safetensors"
    assert "allow it with trust_code" in refused(capsys, *command.split())
    assert "cannot be imported" in refused(capsys, *command.replace("Triplet ", "Triple ").split(), "--trust-code")
    (folder / "my_hashing" / "bare.py").write_text("from torch.nn import Module\ndef bare(*_): return Module()\n")
    found = refused(capsys, *command.replace("triplet:Triplet", "bare:bare").split(), "--trust-code")
    assert "no settings, prepare, end_epoch; make it a subclass of hashpress.System" in found
    assert float(script(folder, "train_triplet.py").split()[1]) > 0.2


def test_an_encoder(package):
    folder = package("write-an-encoder.md")
    program("write-an-encoder.md")
    assert script(folder, "train_separable.py") == "12 True\n"


def test_a_data_source(package, capsys):
    folder = package("add-a-data-source.md")
    random = np.random.default_rng(0)
    rows = [(name, random.normal(place, 1, 4)) for place, name in enumerate(("walk", "run", "rest")) for _ in range(80)]
    text = "\n".join(",".join([name, *(f"{value:.4f}" for value in values)]) for name, values in rows)
    (folder / "readings.csv").write_text(text)
    program("add-a-data-source.md")
    assert load(folder / "model.safetensors").arch.input.shape == (4,)
    found = script(folder, "evaluate_sensors.py")
    assert "161 train, 39 queries" in found
    assert "3 classes, 3" in found
    capsys.readouterr()
    spec = "my_hashing.sensors:read?path=readings.csv"
    assert "allow it with trust_code" in refused(capsys, "evaluate", "model.safetensors", "--data", spec)
    split = load_data(spec, trust_code=True)
    assert {split.classes[label] for label in split.train.labels} == {"walk", "run", "rest"}
    (folder / "my_hashing" / "registered.py").write_text(
        "import hashpress as hp\nfrom .sensors import read\nREADINGS = hp.Source('readings', read, one_size=False)\n"
    )
    again = load_data("my_hashing.registered:READINGS?path=readings.csv", trust_code=True)
    assert again.digest == split.digest
    with pytest.raises(DataError, match=r"gone\.csv does not exist"):
        load_data("my_hashing.sensors:read?path=gone.csv", trust_code=True)
    with pytest.raises(DataError, match=r"'my_hashing\.sensors:write' cannot be imported"):
        load_data("my_hashing.sensors:write?path=readings.csv", trust_code=True)


def test_names_of_ours_stay_ours():
    with pytest.raises(InputError, match="did you mean 'dpsh'"):
        find_system("dpsch", trust_code=True)
    with pytest.raises(DataError, match="unknown data set 'digit'"):
        load_data("digit:abc", trust_code=True)


@pytest.mark.parametrize("page", ["write-a-system.md", "write-an-encoder.md", "add-a-data-source.md"])
def test_pages_are_short(page):
    assert len((DOCS / page).read_text().splitlines()) <= 70
