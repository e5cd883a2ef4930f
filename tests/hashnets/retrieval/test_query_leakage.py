"""Queries are images that the network has not been trained on, whatever --seed says."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hashpress.cli.main import run
from hashpress.core.data import load_data
from hashpress.core.inputs import ImageInput
from hashpress.core.model import HashModel, Step
from hashpress.hashnets.build import default_arch, untrained
from hashpress.hashnets.retrieval.query_leakage import leakage_warning
from hashpress.hashnets.training.schedule import Schedule
from hashpress.hashnets.training.train import train
from hashpress.modelfile.file import save
from hashpress.modelfile.reader import read_manifest

DATA = "digits?limit=300"


@pytest.fixture(scope="module")
def model() -> HashModel:
    split = load_data(DATA)
    start = untrained(default_arch("lenet300", 8, ImageInput.of(split), widths=(20, 10)), seed=1)
    return train(start, split, "dlbhc", Schedule(epochs=1, batch=64))


@pytest.fixture
def folder(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(model, "m.safetensors")
    (tmp_path / "r.toml").write_text('measure = ["flips", "map"]\n[[pass]]\nname = "share"\nbits = 3\n')
    return tmp_path


def told(model: HashModel, data: str, protocol: str) -> HashModel:
    """Return the model as if it had been trained on other data."""
    return replace(model, history=(Step("train", {"data": data, "protocol": protocol, "digest": "0" * 64}),))


def test_what_a_network_was_trained_on_is_not_warned_of(model):
    assert leakage_warning(model, load_data(DATA)) == ""
    assert leakage_warning(replace(model, history=()), load_data("digits?seed=3")) == "", "nobody knows"


@pytest.mark.parametrize("other", ["digits", f"{DATA}&seed=7", "digits?limit=299"])
def test_other_queries_are_warned_of(model, other):
    text = leakage_warning(model, load_data(other))
    assert f"trained on {DATA}, protocol B" in text
    assert other in text


def test_a_part_of_a_sources_own_test_images_is_not_warned_of(model):
    split = replace(load_data(DATA), name="mnist:/data?limit=100", protocol="B")
    assert leakage_warning(told(model, "mnist:/data", "B"), split) == ""
    assert "mnist:/other" in leakage_warning(told(model, "mnist:/other", "B"), split)
    assert leakage_warning(told(model, "mnist:/data", "A (seed 0)"), split)
    assert leakage_warning(told(model, "mnist:/data", "B"), replace(split, protocol="A (seed 0)"))


def test_the_last_training_counts(model):
    twice = replace(model, history=(*told(model, "x", "B").history, *model.history))
    assert leakage_warning(twice, load_data(DATA)) == ""


def compressed(seed: str, capsys: pytest.CaptureFixture[str], data: str = DATA) -> tuple[list[dict], str]:
    out = f"out{seed}.safetensors"
    words = ["compress", "m.safetensors", "--recipe", "r.toml", "--data", data, "-o", out, "--seed", seed, "--json"]
    assert run(words) == 0
    found = capsys.readouterr()
    warnings = [line for line in found.err.splitlines(keepends=True) if line.startswith("warning")]
    return json.loads(found.out)["steps"], "".join(warnings)


def test_the_seed_of_a_verb_leaves_the_queries_alone(folder, capsys):
    (first, quiet), (second, _) = compressed("0", capsys), compressed("7", capsys)
    assert first[0]["figures"] == second[0]["figures"], "the start is measured on the same queries"
    assert quiet == ""
    other, loud = compressed("0", capsys, f"{DATA}&seed=7")
    assert other[0]["figures"] != first[0]["figures"]
    assert loud.startswith("warning: the network was trained on")
    assert loud.count("\n") == 1


def test_every_seed_trains_on_the_same_images(folder):
    for seed in ("0", "7"):
        words = ["train", "--encoder", "lenet300", "--bits", "8", "--data", DATA, "--epochs", "1", "--seed", seed]
        assert run([*words, "-o", f"t{seed}.safetensors"]) == 0
    first, second = (read_manifest(f"t{seed}.safetensors")["history"][-1] for seed in ("0", "7"))
    assert first["settings"]["digest"] == second["settings"]["digest"] == load_data(DATA).digest
    assert (first["seed"], second["seed"]) == (0, 7)


@pytest.mark.parametrize("verb", ["evaluate", "sensitivity"])
def test_verbs_that_measure_warn(folder, capsys, verb):
    more = ["--images", "20", "--passes", "share", "--layers", "head"] if verb == "sensitivity" else []
    for data, warned in ((DATA, ""), ("digits?limit=280", "warning: the network was trained on")):
        assert run([verb, "m.safetensors", "--data", data, *more, "--json"]) == 0
        found = capsys.readouterr()
        assert json.loads(found.out)
        assert found.err.startswith(warned)
        assert bool(found.err) == bool(warned)
