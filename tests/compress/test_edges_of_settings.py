"""Settings at their edges: what was asked for is done, or refused before anything runs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hashpress.compress.base import Context
from hashpress.compress.passes import (
    Cp,
    Fastfood,
    Finetune,
    Fold,
    HashWeights,
    Int8,
    LowRank,
    Merge,
    Narrow,
    Pass,
    ProductQuantize,
    Prune,
    Share,
)  # fmt: skip
from hashpress.compress.recipe.load import Recipe, compress
from hashpress.compress.sensitivity.sensitivity import sensitivity
from hashpress.core.data import load_data
from hashpress.core.data.images import Split
from hashpress.core.errors import InputError, RecipeError
from hashpress.core.inputs import ImageInput
from hashpress.core.model import HashModel
from hashpress.hashnets.build import default_arch, untrained
from hashpress.hashnets.retrieval.codes import outputs
from hashpress.modelfile.encoded import EncodedModel


@pytest.fixture(scope="module")
def split() -> Split:
    return load_data("digits?limit=120")


@pytest.fixture(scope="module")
def model(split: Split) -> HashModel:
    spec = ImageInput.of(split)
    arch = default_arch("smallconv", 24, spec)
    return Fold()(untrained(arch, seed=3))


def test_nothing_of_a_layer_may_stay(model: HashModel, split: Split, tmp_path: Path) -> None:
    recipe = Recipe.of(Prune(density=0.0))
    result = compress(model, recipe, split, out=tmp_path / "out.st")
    assert not any(layer.weight.any() for layer in result.net.modules() if isinstance(layer, torch.nn.Conv2d))
    strict = json.loads((tmp_path / "out.st.ledger.json").read_text(), parse_constant=pytest.fail)
    assert set(strict[1]["decision"]["density"].values()) == {0.0}
    json.dumps(recipe.preview(model, split).to_json(), allow_nan=False)


def test_a_budget_of_bytes_can_be_previewed(model: HashModel, split: Split) -> None:
    tuned = Share(bits=4, lam=0.05, bytes=3000, finetune=Finetune(epochs=1))
    assert Recipe.of(tuned).preview(model, split).to_json()[1]["figures"]["bytes"] > 0


def test_a_budget_holds_however_low_the_first_price_is(model: HashModel, split: Split) -> None:
    tuning = Finetune(epochs=2, lr=1e-5)
    small = Share(bits=5, lam=1e-9, bytes=3000, finetune=tuning)(model, split)
    bits = 0.0
    for layer in small.net.modules():
        if hasattr(layer, "form"):
            counts = np.unique(layer.form.indices.numpy(), return_counts=True)[1]
            bits -= float((counts * np.log2(counts / counts.sum())).sum())
    assert bits / 8 < 3000 * 1.1


def test_filters_that_are_nearly_dead_have_a_factor_that_can_be_kept(model: HashModel, split: Split) -> None:
    net = model.copy_net()
    with torch.no_grad():
        net.get_submodule("encoder.conv2").weight[5] *= 1e-9  # type: ignore[union-attr,operator]
    dying = HashModel(net, model.arch, model.edits)
    shared = Share(bits=5, scaled=True)(dying, split)
    assert np.isfinite(outputs(shared, split.queries.pixels)).all()


@pytest.mark.parametrize("rank", [8, 3])
def test_a_head_in_parts_keeps_eight_bits(model: HashModel, split: Split, rank: int) -> None:
    chain = LowRank(skip=(), ranks={"head": rank, "encoder.conv1": rank}, images=40)(model, split)
    decision = Int8(bits=3, images=40).decide(chain, Context(split)).data["layers"]
    eight = {path for path, layer in decision.items() if layer["bits"] == 8}
    assert eight == {"encoder.conv1.0", "encoder.conv1.1", "head.0", "head.1"}


def test_who_gives_what_is_asked_for_learns_nothing(model: HashModel, split: Split) -> None:
    same = Finetune(epochs=1)(model, split)
    np.testing.assert_array_equal(outputs(same, split.queries.pixels), outputs(model, split.queries.pixels))
    assert same.history[-1].after["nothing_to_learn"] is True
    other = Finetune(epochs=1)(Prune(density=0.5)(model), split, reference=model)
    assert "nothing_to_learn" not in other.history[-1].after
    taught = Finetune(epochs=1, system="dpsh")(model, split)
    assert "nothing_to_learn" not in taught.history[-1].after


REFUSED = [
    (lambda: Share(bits=3, importance="outputs"), "needs a price on bits, lam"),
    (lambda: Finetune(system="dpsh", settings={"etta": 3}), "unknown setting of dpsh 'etta'; did you mean 'eta'"),
    (lambda: Finetune(settings={"eta": 3}), "settings eta are a system's own; name the system"),
    (lambda: Cp(rank={"*": 2.5}), r"rank of '\*' must be 1 whole number"),
    (lambda: Cp(rank={"*": [3]}, order="tucker"), r"rank of '\*' must be 2 whole number"),
    (lambda: Cp(energy="much"), "energy must be a number or a table of numbers by name, found 'much'"),
    (lambda: LowRank(energy=0.9, skip="head"), "skip must be a list of texts, found 'head'"),
    (lambda: Prune(q=float("inf")), "q of"),
]


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_what_cannot_be_meant_is_refused(number: int) -> None:
    make, message = REFUSED[number]
    with pytest.raises(RecipeError, match=message):
        make()


def test_no_pass_to_probe(model: HashModel, split: Split) -> None:
    with pytest.raises(InputError, match=r"no pass to probe was named \(there are: prune, share"):
        sensitivity(model, split, passes=[])


def test_errors_are_for_codes_that_are_classes(model: HashModel, split: Split) -> None:
    recipe = Recipe.of(Share(bits=3), measure=("error",))
    with pytest.raises(InputError, match="these have 24 bits and the data 10 classes"):
        compress(model, recipe, split)


@pytest.mark.parametrize("resume", [False, True])
def test_what_no_run_made_is_left_alone(model: HashModel, tmp_path: Path, resume: bool) -> None:
    recipe, work = Recipe.of(Share(bits=3)), tmp_path / "out.st.work"
    work.mkdir()
    (work / "mine.txt").write_text("precious")
    with pytest.raises(InputError, match="but it is another folder; move it away"):
        compress(model, recipe, None, out=tmp_path / "out.st", resume=resume)
    assert (work / "mine.txt").read_text() == "precious"
    (work / "mine.txt").rename(tmp_path / "mine.txt")
    compress(model, recipe, None, out=tmp_path / "out.st", resume=resume)  # killed before it wrote its first file
    (tmp_path / "mine.txt").rename(work)
    with pytest.raises(InputError, match="but it is another folder; move it away"):
        compress(model, recipe, None, out=tmp_path / "out.st", resume=resume)
    assert work.read_text() == "precious"


def test_files_of_an_earlier_run_stay_until_all_is_written(
    model: HashModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.st"
    compress(model, Recipe.of(Share(bits=3)), None, out=out)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_: Any) -> None:
        raise InputError("cannot write: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(EncodedModel, "write", full)
        with pytest.raises(InputError, match="No space left"):
            compress(model, Recipe.of(Share(bits=4)), None, out=out)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
    out.unlink()
    out.mkdir()
    with pytest.raises(InputError, match=re.escape(f"cannot write {out}: it is a folder")):
        compress(model, Recipe.of(Share(bits=4)), None, out=out)


@pytest.mark.parametrize(
    "item",
    [
        Fold(),
        Finetune(epochs=1, system="dpsh"),
        Int8(),
        Merge(share=0.2),
        Merge(share=0.2, refit=20),
        Merge(share=0.2, refit=20, images="noise"),
        Narrow(ratio=0.2),
        Narrow(ratio=0.2, refit=True),
        Narrow(ratio=0.2, score="code"),
        Cp(rank=2, fit="greedy", epc=False),
        Cp(rank=2, fit="greedy", epc=False, data=True),
        Cp(flips=0.1, fit="greedy", epc=False),
        LowRank(ranks=2),
        LowRank(ranks=2, solver="filter"),
        HashWeights(share=0.5),
        Fastfood(),
        Prune(density=0.5),
        Prune(density=0.5, compensate="obs"),
        Prune(density=0.5, scope="sensitivity"),
        Prune(density=0.5, stages=2, finetune={"epochs": 1}),
        Prune(density=0.5, finetune={"epochs": 1}),
        Share(bits=3),
        Share(bits=3, importance="outputs", lam=0.1),
        Share(bits=3, lam=0.1, finetune={"epochs": 1}),
        ProductQuantize(entries=8),
        ProductQuantize(entries=8, sweeps=0),
    ],
    ids=repr,
)
def test_passes_know_whether_they_need_images(item: Pass, model: HashModel) -> None:
    if item.needs_images:
        with pytest.raises(InputError, match="--data"):
            item(model)
    else:
        item(model)
