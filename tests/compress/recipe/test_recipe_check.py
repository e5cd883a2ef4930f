"""Names of layers and measures that are not there are told together, before the first step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from hashpress.compress.passes import PASSES, Cp, Finetune, Int8, LowRank, Narrow, ProductQuantize, Prune, Share
from hashpress.compress.recipe.check import recipe_problems
from hashpress.compress.recipe.load import Recipe, compress
from hashpress.core.data import load_data
from hashpress.core.data.images import Split
from hashpress.core.errors import RecipeError
from hashpress.core.inputs import ImageInput
from hashpress.core.model import HashModel
from hashpress.hashnets.build import default_arch, untrained
from program import run_program


@pytest.fixture(scope="module")
def split() -> Split:
    return load_data("digits?limit=120")


@pytest.fixture(scope="module")
def model(split: Split) -> HashModel:
    return untrained(default_arch("smallconv", 16, ImageInput.of(split), widths=(6, 6, 8, 20)), seed=3)


def steps(*passes: Any) -> list[Any]:
    return Recipe.of(*passes).passes()


def test_all_of_a_recipe_is_told_at_once_and_nothing_runs(model, split, tmp_path, monkeypatch):
    monkeypatch.setattr(Finetune, "apply", lambda *_, **__: pytest.fail("it trained"))
    recipe = Recipe.of(
        Finetune(epochs=4),
        Share(bits={"*": 4, "encoder.nolayer": 4}, skip=("encoder.typo",)),
        Int8(skip=("nope",)),
        measure=("flips", "error"),
    )
    for call in (lambda: compress(model, recipe, split, out=tmp_path / "out.st"), lambda: recipe.preview(model, split)):
        with pytest.raises(RecipeError) as caught:
            call()
        assert list(caught.value.problems) == [
            "step 2 (share): no layer matches 'encoder.nolayer', 'encoder.typo'",
            "step 3 (int8): no layer matches 'nope' "
            "(there are: encoder.conv1, encoder.conv2, encoder.conv3, encoder.fc1, head)",
            "measure 'error' is for codes that are classes; these have 16 bits and the data 10 classes: "
            "measure flips or map",
        ]
    assert list(tmp_path.iterdir()) == []


def test_images_that_are_missing_are_told_with_the_rest(model):
    with pytest.raises(RecipeError, match=r"step 1 \(finetune\) needs .* --data; step 2 \(share\): no layer matches"):
        compress(model, Recipe.of(Finetune(), Share(skip=("x",))), None)


@pytest.mark.parametrize(
    ("passes", "found"),
    [
        ((Prune(density={"re:.*conv9": 0.5, "*": 0.5}),), ["re:.*conv9"]),
        ((Prune(density={"re:.*conv[12]": 0.5, "head": 0.5, "first": 1.0, "dense": 0.1}),), []),
        ((Narrow(ratio=0.5), Share(skip=("encoder.conv1.0",))), ["encoder.conv1.0"]),
        ((Narrow(ratio=0.5, skip=("encoder",)),), ["encoder"]),
        ((Cp(rank=2), Share(skip=("encoder.conv2.1", "encoder.conv2"))), []),
        ((Cp(rank=2), Share(skip=("encoder.conv22.1", "re:.*\\.9"))), ["encoder.conv22.1"]),
        ((Cp(rank={"encoder.conv2.0": 2}),), ["encoder.conv2.0"]),
        ((LowRank(ranks={"encoder.fc2": 2}, solver="filter"),), ["encoder.fc2"]),
        ((ProductQuantize(width={"conv": 2, "fc": 2}, entries={"ffc": 4}, lam={"fcc": 1.0}),), ["fc", "ffc", "fcc"]),
    ],
)
def test_names_behind_a_pass_that_makes_new_ones_are_taken_below_known_layers(model, passes, found):
    problems = recipe_problems(steps(*passes), model, None)
    assert len(problems) == bool(found)
    if found:
        assert f"no layer matches {', '.join(map(repr, found))} (there are: encoder.conv1," in problems[0]


def test_a_step_accepts_the_names_that_the_step_before_really_makes(model, split):
    """What may be written is what the steps themselves take."""
    made = compress(model, Recipe.of(Cp(rank=2, sweeps=3)), split)
    names = [name for name, layer in made.net.named_modules() if hasattr(layer, "weight")]
    assert any(name.startswith("encoder.conv2.") for name in names)
    recipe = Recipe.of(Cp(rank=2, sweeps=3), Share(bits=dict.fromkeys(names, 3)))
    assert compress(model, recipe, split).history[-1].name == "share"


def test_every_table_of_a_pass_is_by_layer_or_known_not_to_be():
    """A pass with a new kind of table has to be thought of here."""
    tables = {
        (name, field)
        for name, kind in PASSES.items()
        for field, hint in get_type_hints(kind).items()
        if field in {one.name for one in fields(kind)}
        and any(
            isinstance(get_origin(part), type) and issubclass(get_origin(part), Mapping)
            for part in (hint, *get_args(hint))
        )
    }
    settings = {("finetune", "settings"), ("prune", "finetune"), ("share", "finetune")}
    by_layer = {
        *(("cp", rule) for rule in ("rank", "energy", "share", "flips", "hint")),
        *(("pq", field) for field in ("width", "entries", "lam")),
        ("lowrank", "energy"), ("lowrank", "ranks"), ("merge", "share"), ("hashed", "share"),
        ("prune", "density"), ("prune", "q"), ("share", "bits"), ("int8", "bits"),
    }  # fmt: skip
    assert tables == settings | by_layer
    assert Finetune(system="dpsh", settings={"eta": 0.1}).layer_keys() == []
    assert Share(lam=1.0, finetune={"epochs": 1}, skip=("a",)).layer_keys() == ["a"]
    assert Prune(density={"b": 0.5, "c": 0.5}, skip=("a", "b")).layer_keys() == ["b", "c", "a"]


def test_a_shipped_command_says_it_before_it_works(model_file, tmp_path, capsys):
    (tmp_path / "r.toml").write_text(
        'measure = ["error"]\n[[pass]]\nname = "finetune"\n[[pass]]\nname = "share"\nskip = ["typo"]\n'
    )
    words = ["compress", model_file, "--recipe", tmp_path / "r.toml", "--data", "digits?limit=60"]
    for more in (["--dry-run"], ["-o", tmp_path / "out"], ["-o", tmp_path / "out", "--resume"]):
        code, _, errors = run_program(capsys, *words, *more)
        assert code == 2
        line = errors.splitlines()[-1]
        assert "no layer matches 'typo'" in line
        assert "measure 'error' is for codes that are classes" in line
    assert [path.name for path in tmp_path.iterdir()] == ["r.toml"]
