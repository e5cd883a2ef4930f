"""The validation part: held out of the training items, and all that training and compressing look at besides them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hashpress.cli.main import run
from hashpress.compress.recipe.recipe import Recipe
from hashpress.compress.sensitivity.sensitivity import sensitivity
from hashpress.core.data import Split, load_data, load_pairs
from hashpress.core.data.images import Images
from hashpress.core.data.items import Items
from hashpress.core.data.labels import MultiLabels
from hashpress.core.data.protocols import divide
from hashpress.core.data.source import Parts, shuffled
from hashpress.core.errors import DataError
from hashpress.core.inputs import ImageInput
from hashpress.hashnets.build import default_arch, untrained
from hashpress.hashnets.retrieval.evaluate import evaluate
from hashpress.hashnets.retrieval.query_leakage import leakage_warning
from hashpress.hashnets.training.schedule import Schedule
from hashpress.hashnets.training.train import train
from hashpress.modelfile.reader import read_manifest
from hypothesis import given, settings
from hypothesis import strategies as st


def numbered(sizes: list[int], first: int, multi: bool = False) -> Images:
    """Images that say which they are, shuffled."""
    labels = np.repeat(np.arange(len(sizes)), sizes).astype(np.int64)
    pixels = np.arange(first, first + len(labels), dtype=">u4").view(np.uint8).reshape(-1, 1, 2, 2)
    order = shuffled(len(labels))
    values = labels[:, None] == np.arange(len(sizes)) if multi else labels
    return Images(pixels[order], values[order])


def members(items: Items | None) -> set[int]:
    assert items is not None
    return set(np.ascontiguousarray(items.values).reshape(-1, 4).view(">u4").ravel().tolist())


@given(
    sizes=st.lists(st.integers(6, 40), min_size=2, max_size=5),
    own_test=st.booleans(),
    multi=st.booleans(),
    protocol=st.sampled_from(["A", "A-excl", "B"]),
    amount=st.one_of(st.integers(1, 5), st.sampled_from([0.1, 0.25, 0.5])),
    seed=st.integers(0, 3),
)
@settings(max_examples=60, deadline=None)
def test_held_out_items_are_in_no_other_set(sizes, own_test, multi, protocol, amount, seed):
    parts = Parts(
        numbered(sizes, 0, multi), numbered([2] * len(sizes), 1000, multi) if own_test else None, tuple(map(str, sizes))
    )
    plain = divide(parts, "x", protocol, seed)
    split = divide(parts, "x", protocol, seed, amount)
    held = members(split.held_out)
    assert len(held) == (amount if isinstance(amount, int) else max(1, round(amount * len(plain.train))))
    for other in (split.train, split.queries, split.database):
        assert not held & members(other)
    assert members(split.train) | held == members(plain.train)
    assert members(split.database) == members(plain.database) - held
    assert split.queries.digest == plain.queries.digest, "a validation part moves no query"
    view = split.validation
    assert (members(view.queries), members(view.database), members(view.train)) == (
        held,
        members(split.train),
        members(split.train),
    )
    again = divide(parts, "x", protocol, seed, amount)
    assert again.digest == split.digest != plain.digest


def test_classes_keep_their_proportion_and_the_seed_decides():
    parts = Parts(numbered([400, 100, 40], 0), numbered([3, 3, 3], 1000), ("a", "b", "c"))
    split = divide(parts, "x", "B", 0, 0.1)
    assert np.bincount(split.held_out.labels).tolist() == [40, 10, 4]
    assert members(divide(parts, "x", "B", 1, 0.1).held_out) != members(split.held_out)
    assert (
        divide(Parts(numbered([9, 9], 0, multi=True), None, ("a", "b")), "x", "B", 0, 2).held_out.label_type
        is MultiLabels
    )


def test_without_the_option_nothing_is_different():
    split = load_data("digits")
    assert split.held_out is None
    assert split.for_settings is split
    assert split.digest == "fb2a3d5e92cbd5a171ba0275fdb0127bfbf16558e42866d3286fa2b064d90f46"
    with pytest.raises(DataError, match=r"hold one out .*\?validation=0.1"):
        _ = split.validation


@pytest.mark.parametrize("value", ["0", "0.0", "1.5", "-3", "many", "1e3", "nan", "0.", "1438"])
def test_amounts_that_are_none_are_refused(value):
    with pytest.raises(DataError, match="validation"):
        load_data(f"digits?validation={value}")


def test_pairs_are_held_out_as_pairs(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (40, 4, 4), dtype=np.uint8)
    np.savez(tmp_path / "p.npz", images=images, texts=np.array([f"text {i}" for i in range(40)]))
    pairs = load_pairs(f"pairs:{tmp_path}/p.npz?validation=8").validation
    assert len(pairs.images.queries) == 8
    assert pairs.image_to_text.relevance()(slice(None)).sum(1).tolist() == [1] * 8
    assert not set(pairs.images.train.labels) & set(pairs.images.queries.labels)


class Unreadable(np.ndarray):
    """An array that counts how often somebody takes anything out of it."""

    reads = 0

    def __getitem__(self, item):
        Unreadable.reads += 1
        return np.asarray(super().__getitem__(item))

    def __array__(self, *args, **kwargs):
        Unreadable.reads += 1
        return super().__array__(*args, **kwargs)


def watched(split: Split) -> Split:
    """Return the split with queries that count their reads; the digest, which is their provenance, is known before."""
    queries = Images(split.queries.values.view(Unreadable), split.queries.labels)
    object.__setattr__(queries, "digest", split.queries.digest)
    found = replace(split, queries=queries)
    _ = found.digest
    Unreadable.reads = 0
    return found


def test_queries_are_never_read_while_training_or_compressing():
    split = watched(load_data("digits?limit=300&validation=60"))
    start = untrained(default_arch("lenet300", 8, ImageInput.of(split), widths=(20, 10)), seed=1)
    model = train(start, split, "dlbhc", Schedule(epochs=1, batch=64))
    steps = [{"name": "prune", "density": 0.5}, {"name": "share", "bits": 3}, {"name": "finetune", "epochs": 1}]
    small = Recipe(tuple(steps), measure=("flips", "map")).run(model, split)
    found = sensitivity(model, split, passes=("share", "int8"), layers=("head",), images=20)
    assert found.images == 20
    assert Unreadable.reads == 0
    assert evaluate(small, split.validation).queries == 60
    assert Unreadable.reads == 0
    evaluate(small, split)
    assert Unreadable.reads > 0, "the counter counts"


def test_sensitivity_without_a_validation_part_holds_images_out_of_the_training_images():
    split = watched(load_data("digits?limit=300"))
    model = untrained(default_arch("lenet300", 8, ImageInput.of(split), widths=(20, 10)), seed=1)
    found = sensitivity(model, split, passes=("share",), layers=("head",), images=500)
    assert found.images == len(split.train) // 5
    assert Unreadable.reads == 0


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_by_the_command_line(folder, capsys):
    data = "digits?limit=300"
    words = ["train", "--encoder", "lenet300", "--bits", "8", "--data", data, "--validation", "0.2", "--epochs", "1"]
    assert run([*words, "-o", "m.safetensors", "--json"]) == 0
    chosen = json.loads(capsys.readouterr().out)["validation"]
    assert read_manifest("m.safetensors")["history"][-1]["settings"]["data"] == f"{data}&validation=0.2"
    evaluate_ = ["evaluate", "m.safetensors", "--json", "--data"]
    assert run([*evaluate_, f"{data}&validation=0.2", "--on", "validation"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["symmetric"] == chosen
    assert err == ""
    assert "validation on 48 held-out training images" in chosen["protocol"]
    assert run([*evaluate_, f"{data}&validation=0.2"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["symmetric"]["queries"] == 60, "the queries are the default"
    assert err == ""
    assert run([*evaluate_, data]) == 0, "the same queries, and the held-out images back in the database"
    out, err = capsys.readouterr()
    assert json.loads(out)["symmetric"]["database"] == 240
    assert err == ""
    assert run([*evaluate_, data, "--on", "validation"]) == 2
    assert "?validation=0.1" in capsys.readouterr().err
    assert run([*evaluate_, data, "--on", "train"]) == 2
    assert "there are: queries, validation" in capsys.readouterr().err
    assert run([*evaluate_, f"{data}&validation=0.3", "--on", "validation"]) == 0
    assert "validation may be items that it has seen" in capsys.readouterr().err


def test_compressing_measures_on_the_validation_part(folder, capsys):
    data = "digits?limit=300&validation=60"
    assert (
        run(["train", "--encoder", "lenet300", "--bits", "8", "--data", data, "--epochs", "1", "-o", "m.safetensors"])
        == 0
    )
    (folder / "r.toml").write_text('measure = ["map"]\n[[pass]]\nname = "share"\nbits = 3\n')
    capsys.readouterr()
    assert (
        run(["compress", "m.safetensors", "--recipe", "r.toml", "--data", data, "-o", "s.safetensors", "--json"]) == 0
    )
    steps = json.loads(capsys.readouterr().out)["steps"]
    assert run(["evaluate", "s.safetensors", "--data", data, "--on", "validation", "--json"]) == 0
    assert steps[-1]["figures"]["map"] == round(json.loads(capsys.readouterr().out)["symmetric"]["map"], 6)


def test_a_network_trained_on_everything_is_warned_of_on_validation():
    whole = load_data("digits?limit=300")
    start = untrained(default_arch("lenet300", 8, ImageInput.of(whole), widths=(20, 10)), seed=1)
    model = train(start, whole, "dlbhc", Schedule(epochs=1, batch=64))
    assert "validation may be items that it has seen" in leakage_warning(
        model, load_data("digits?limit=300&validation=60"), on="validation"
    )
