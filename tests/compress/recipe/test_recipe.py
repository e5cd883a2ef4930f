"""Recipes: all problems at once, previews, the ledger, and runs that are killed and go on."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hashpress.compress.finetune import finetune as finetune_module
from hashpress.compress.passes import Finetune, Fold, Prune, Share
from hashpress.compress.recipe import run as running
from hashpress.compress.recipe.load import Recipe, compress, load_recipe, named_recipes, parse
from hashpress.core.data import load_data
from hashpress.core.data.images import Split
from hashpress.core.errors import HashpressError, InputError, RecipeError
from hashpress.core.inputs import ImageInput
from hashpress.core.model import HashModel
from hashpress.hashnets.build import default_arch, untrained
from hashpress.hashnets.training import train
from hashpress.modelfile import file, reader
from hashpress.modelfile.encoded import EncodedModel

RECIPE = b"""
about = "a test"
measure = ["flips", "error", "map"]
[[pass]]
name = "fold"
[[pass]]
name = "prune"
density = { "*" = 0.3, head = 0.8 }
stages = 2
finetune = { epochs = 2, lr = 0.01 }
[[pass]]
name = "share"
bits = 3
[[pass]]
name = "finetune"
epochs = 3
lr = 0.003
"""


@pytest.fixture(scope="module")
def split() -> Split:
    return load_data("digits?limit=200")


@pytest.fixture(scope="module")
def model(split: Split) -> HashModel:
    arch = default_arch("lenet300", 10, ImageInput.of(split), widths=(30, 20))
    return untrained(arch, seed=3)


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


DONE = ["out.st", "out.st.ledger.json", "out.st.recipe.toml", "out.st.run.json"]


def test_all_problems_are_reported_together() -> None:
    recipe = parse(
        b"""
        measure = ["flops"]
        [[pass]]
        name = "prun"
        [[pass]]
        name = "share"
        bits = "five"
        lambda = 3
        [[pass]]
        name = "prune"
        densty = 0.5
        finetune = { epoch = 3 }
        stages = true
        [[pass]]
        name = "fold"
        [[pass]]
        density = 0.5
        [[pass]]
        name = "finetune"
        epochs = -1
        lr = 0
        decay = "slow"
        match = "codez"
        """,
        "bad.toml",
    )
    with pytest.raises(RecipeError) as caught:
        recipe.check()
    text = "\n".join(caught.value.problems)
    for part in (
        "unknown measure 'flops'",
        "step 1: unknown pass 'prun'; did you mean 'prune'?",
        "step 2 (share): bits must be a whole number or a table of whole numbers by name, found 'five'",
        "step 2 (share): unknown setting 'lambda'; did you mean 'lam'?",
        "step 3 (prune): unknown setting 'densty'; did you mean 'density'?",
        "step 3 (prune): finetune: unknown setting 'epoch'; did you mean 'epochs'?",
        "step 3 (prune): stages must be a whole number, found 'True'",
        "step 3 (prune): weights that share values cannot be pruned",
        "step 4 (fold): must come before prune: norms are folded",
        "step 5: no name",
        "step 6 (finetune): finetune: schedule: unknown decay 'slow' (there are: cosine, step, constant); "
        "epochs must be at least 0, got -1; lr must be positive, got 0",
        "step 6 (finetune): finetune: unknown match 'codez'; did you mean 'codes'?",
    ):
        assert part in text, part
    assert len(caught.value.problems) == 12
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"pass = 3", r"pass must be a list of tables"),
        (b"[pass]\nname = 'fold'", r"write \[\[pass\]\]"),
        (b"passes = []\nmeasure = 'map'", "unknown key 'passes'.*measure must be a list"),
        (b"about = ", "not TOML"),
        (b"\xff", "not TOML"),
        (b"a = " + b"[" * 5000, "not TOML"),
        (b"", "no pass"),
    ],
)
def test_files_that_are_no_recipes(content: bytes, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse(content, "x.toml").check()


def test_norms_may_be_folded_into_shared_weights_and_into_nothing_else_late() -> None:
    assert not Recipe.of(Share(scaled=True), Fold()).problems()
    for late in (Prune(density=0.5), Prune(q=1.0)):
        assert "must come before prune" in Recipe.of(late, Fold()).problems()[0]


def test_recipes_by_name_or_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"deep-compression", "smallest"} <= set(named_recipes())
    for name in named_recipes():
        recipe = load_recipe(name)
        recipe.check()
        assert recipe.about
    with pytest.raises(RecipeError, match="did you mean 'smallest'"):
        load_recipe("smalest")
    with pytest.raises(RecipeError, match="No such file"):
        load_recipe(tmp_path / "no.toml")
    assert load_recipe("recipe:smallest").entries == load_recipe("smallest").entries
    (tmp_path / "mine.toml").write_bytes(RECIPE)
    assert load_recipe(f"recipe:{tmp_path / 'mine.toml'}").entries == load_recipe(tmp_path / "mine.toml").entries
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smallest").write_bytes(RECIPE)
    assert load_recipe("recipe:smallest").entries != load_recipe("smallest").entries == parse(RECIPE, "a").entries


def test_the_resolved_recipe_reads_as_itself() -> None:
    first = parse(RECIPE, "a").to_toml()
    assert parse(first.encode(), "b").to_toml() == first
    assert "momentum = 0.9" in first
    made = Recipe.of(Prune(density=0.5), Share(bits={"head": 4}), Finetune(epochs=2))
    assert parse(made.to_toml().encode(), "c").passes() == made.passes()


def test_every_character_of_a_text_comes_back_from_the_resolved_recipe() -> None:
    text = "".join(map(chr, range(0x250))) + "\u2028\U0001f600"
    made = Recipe.of(Share(bits={text: 4}), about=text)
    again = tomllib.loads(made.to_toml())
    assert again["about"] == text
    assert again["pass"][0]["bits"] == {text: 4}


def test_preview_runs_no_training_and_predicts_sizes(
    model: HashModel, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hashpress.compress.finetune.finetune.fit", lambda *_, **__: pytest.fail("trained"))
    ledger = parse(RECIPE, "a").preview(model, split)
    lines = ledger.to_json()
    assert json.loads(json.dumps(lines)) == lines
    assert [line["name"] for line in lines] == ["start", "fold", "prune", "share", "finetune"]
    sizes = [line["figures"]["bytes"] for line in lines]
    assert 0 <= sizes[1] - sizes[0] < 60, "nothing to fold: only a line of history more"
    assert sizes[1] > sizes[2] > sizes[3] == sizes[4]
    assert lines[2]["decision"]["density"] == {"encoder.fc1": 0.3, "encoder.fc2": 0.3, "head": 0.8}
    assert "kB" in str(ledger)


def test_a_run_writes_its_files_and_a_ledger(model: HashModel, split: Split, tmp_path: Path) -> None:
    result = compress(model, parse(RECIPE, "a"), split, out=tmp_path / "out.st", seed=4)
    assert listing(tmp_path) == DONE
    ledger = json.loads((tmp_path / "out.st.ledger.json").read_text())
    assert [line["name"] for line in ledger] == ["start", "fold", "prune", "share", "finetune"]
    assert all({"bytes", "error", "map"} <= set(line["figures"]) for line in ledger)
    assert "flips" in ledger[1]["figures"]
    assert ledger[1]["figures"]["flips"] == 0 == ledger[1]["figures"]["map_asymmetric"] - ledger[0]["figures"]["map"]
    assert result.history[-1].before["bytes"] == ledger[3]["figures"]["bytes"]
    assert (tmp_path / "out.st").stat().st_size == ledger[-1]["figures"]["bytes"]
    again = compress(model, parse(RECIPE, "a"), split, out=tmp_path / "two.st", seed=4)
    assert (tmp_path / "two.st").read_bytes() == (tmp_path / "out.st").read_bytes()
    assert b"".join(file.content(again)) == (tmp_path / "out.st").read_bytes()
    assert reader.read_manifest(tmp_path / "out.st")["history"][0]["name"] == "fold"


class Killed(BaseException):
    """What a kill looks like from inside."""


@pytest.mark.parametrize("when", [1, 2, 3, 5, 6, 7])
def test_a_killed_run_resumes_to_the_same_bytes(
    when: int, model: HashModel, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed behind the ``when``-th training checkpoint: inside prune's stages (1 to 4) and inside finetune (5 to 7)."""
    recipe = parse(RECIPE, "a")
    compress(model, recipe, split, out=tmp_path / "whole.st", seed=4)

    keep, calls = train.save_state, []

    def dying(*args: Any, **kwargs: Any) -> None:
        keep(*args, **kwargs)
        calls.append(1)
        if len(calls) == when:
            raise Killed

    monkeypatch.setattr(train, "save_state", dying)
    folder = tmp_path / "killed"
    folder.mkdir()
    with pytest.raises(Killed):
        compress(model, recipe, split, out=folder / "out.st", seed=4)
    assert [name for name in listing(folder) if "work" not in name] == []
    compress(model, recipe, split, out=folder / "out.st", seed=4, resume=True)
    assert len(calls) == 7, "steps that were done were not done again"
    assert (folder / "out.st").read_bytes() == (tmp_path / "whole.st").read_bytes()
    assert (folder / "out.st.ledger.json").read_bytes() == (tmp_path / "whole.st.ledger.json").read_bytes()
    assert listing(folder) == DONE


def test_resume_refuses_another_run(model: HashModel, split: Split, tmp_path: Path) -> None:
    bad = Recipe.of(Share(bits=2), Finetune(epochs=1, lr=1e30))
    with pytest.raises(InputError, match=r"step 2 \(finetune\): training diverged"):
        compress(model, bad, split, out=tmp_path / "out.st")
    assert (tmp_path / "out.st.work").is_dir()
    with pytest.raises(InputError, match="another recipe, seed"):
        compress(model, Recipe.of(Share(bits=3)), split, out=tmp_path / "out.st", resume=True, seed=9)
    with pytest.raises(InputError, match=r"keeps 1 finished step .*--resume, or .* with --restart"):
        compress(model, Recipe.of(Share(bits=3)), split, out=tmp_path / "out.st")
    assert (tmp_path / "out.st.work" / "step01.safetensors").is_file()
    compress(model, Recipe.of(Share(bits=3)), split, out=tmp_path / "out.st", restart=True)
    assert listing(tmp_path) == DONE


def test_faults_are_wrapped_once_with_their_step(
    model: HashModel, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RecipeError, match=r"^step 1 \(prune\): no layer matches 'conv9'"):
        compress(model, Recipe.of(Prune(density={"conv9": 0.5})), split, out=tmp_path / "out.st")
    assert listing(tmp_path) == [], "nothing was done, nothing is kept"

    def refuse(*_: Any, **__: Any) -> None:
        raise InputError("no")

    with monkeypatch.context() as patch:
        patch.setattr(Share, "decide", refuse)
        with pytest.raises(InputError, match=r"^step 1 \(share\): no$"):
            compress(model, Recipe.of(Share()), split)
    monkeypatch.setattr(Share, "decide", lambda *_, **__: 1 / 0)
    with pytest.raises(HashpressError, match=r"^step 1 \(share\): ZeroDivisionError: division by zero$") as caught:
        compress(model, Recipe.of(Share()), split)
    assert caught.value.exit_code == 1


def test_steps_that_need_images_are_named_before_the_first_one_runs(
    model: HashModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Share, "decide", lambda *_, **__: pytest.fail("it ran"))
    message = r"^step 2 \(finetune\) needs training images; step 3 \(finetune\) needs .*; name a data set with --data$"
    with pytest.raises(RecipeError, match=message):
        compress(model, Recipe.of(Share(), Finetune(), Finetune()), None, out=tmp_path / "out.st")
    assert listing(tmp_path) == []


def test_a_full_disk_leaves_nothing_half_written(
    model: HashModel, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe.of(Share(bits=2))

    def full(*_: Any) -> None:
        raise InputError("cannot write: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(EncodedModel, "write", full)
        with pytest.raises(InputError, match="No space left"):
            compress(model, recipe, split, out=tmp_path / "out.st")
    assert listing(tmp_path) == []
    compress(model, recipe, split, out=tmp_path / "out.st")
    first = (tmp_path / "out.st").read_bytes()
    shutil.rmtree(tmp_path / "out.st.work", ignore_errors=True)
    assert file.load(tmp_path / "out.st").edits
    assert first
    with pytest.raises(InputError, match="cannot write"):
        compress(model, recipe, split, out=tmp_path / "missing" / "out.st")


def test_passes_train_on_the_device_that_is_asked_for(model, split, monkeypatch):
    devices = []
    real = finetune_module.fit

    def fit(*args, device, **settings):
        devices.append(device)
        return real(*args, device="cpu", **settings)

    monkeypatch.setattr(finetune_module, "fit", fit)
    monkeypatch.setattr(running, "open_device", lambda name: devices.append(f"open {name}"))
    tuning = {"epochs": 1, "lr": 1e-4}
    recipe = Recipe.of(Prune(density=0.5, stages=2, finetune=tuning), Share(bits=2, lam=0.01, finetune=tuning))
    recipe.run(model, split, device="cuda")
    assert devices == ["open cuda", "cuda", "cuda", "cuda"]


def test_a_device_that_is_not_there_is_one_line(model, split, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(InputError, match=r"device cuda:0 was asked for, and torch \S+ finds 0 GPUs"):
        Recipe.of(Prune(density=0.5)).run(model, split, device="cuda")
