"""Recipes that come with hashpress, each run whole on a small network that was trained on the embedded digits."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hashpress.cli.main import run
from hashpress.compress.observe.macs import count
from hashpress.compress.recipe.ledger import measured
from hashpress.compress.recipe.load import compress, load_recipe
from hashpress.core.data import load_data
from hashpress.core.data.images import Split
from hashpress.core.inputs import ImageInput
from hashpress.core.model import HashModel
from hashpress.hashnets.build import default_arch, untrained
from hashpress.hashnets.retrieval.codes import outputs
from hashpress.hashnets.training.schedule import Schedule
from hashpress.hashnets.training.train import train
from hashpress.modelfile.file import file_size, load, save


@pytest.fixture(scope="module")
def split() -> Split:
    return load_data("digits")


@pytest.fixture(scope="module")
def base(split: Split) -> HashModel:
    arch = default_arch("lenet300", 16, ImageInput.of(split))
    schedule = Schedule(epochs=4, lr=0.003, optimizer="adam")
    return train(untrained(arch, seed=0), split, "dlbhc", schedule)


def test_data_free_looks_at_no_image(base, split, tmp_path):
    path = tmp_path / "small.safetensors"
    small = compress(base, load_recipe("data-free"), None, out=path)
    assert path.stat().st_size < file_size(base) / 8
    assert small.net.encoder.fc1.form.indices.shape[0] < 300  # neurons went
    before = measured(base, file_size(base), base, split, ("map",))
    after = measured(small, file_size(small), base, split, ("map", "flips"))
    assert after["flips"] < 0.08
    assert after["map"] > before["map"] - 0.05
    pixels = split.queries.pixels[:20]
    np.testing.assert_array_equal(outputs(load(path), pixels), outputs(small, pixels))


def test_fastest_has_fewer_and_whole_vectors(base, split):
    small = compress(base, load_recipe("fastest"), split)
    widths = [small.net.get_submodule(path).weight.shape[0] for path in ("encoder.fc1", "encoder.fc2")]
    assert all(width % 16 == 0 for width in widths)
    assert count(small).macs <= 0.55 * count(base).macs
    before = measured(base, file_size(base), base, split, ("map",))
    after = measured(small, file_size(small), base, split, ("map", "flips"))
    assert after["flips"] < 0.1
    assert after["map"] > before["map"] - 0.03


@pytest.mark.parametrize("name", ["data-free", "fastest"])
def test_show_prints_a_recipe_that_can_be_started_from(name, capsys, tmp_path):
    assert run(["show", f"recipe:{name}"]) == 0
    text = capsys.readouterr().out
    (tmp_path / "mine.toml").write_text(text)
    assert load_recipe(tmp_path / "mine.toml").passes() == load_recipe(name).passes()
    assert "refit = " in text  # every setting is written out, also those that the recipe leaves alone
    assert run(["show", f"recipe:{name}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pass"][0]["name"] == "fold"


def test_a_recipe_without_images_runs_without_data_and_others_ask_for_it(base, tmp_path, capsys):
    save(base, tmp_path / "base.st")
    words = ["compress", str(tmp_path / "base.st"), "-o", str(tmp_path / "small.st"), "--recipe"]
    assert run([*words, "data-free"]) == 0
    assert (tmp_path / "small.st").stat().st_size < (tmp_path / "base.st").stat().st_size / 4
    capsys.readouterr()
    assert run([*words, "deep-compression"]) == 2
    assert "--data" in capsys.readouterr().err
