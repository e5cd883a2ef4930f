"""Settings of passes that are built in Python: wrong types are named before anything is compared with them."""

from __future__ import annotations

import json
from dataclasses import fields

import numpy as np
import pytest
from hashpress.compress.passes import PASSES, Finetune, Int8, Prune
from hashpress.compress.recipe.load import Recipe, parse
from hashpress.core.data import load_data
from hashpress.core.errors import InputError, RecipeError
from hashpress.core.inputs import ImageInput
from hashpress.core.settings import problems_of
from hashpress.hashnets.build import default_arch, untrained
from hashpress.hashnets.retrieval.codes import outputs
from hashpress.hashnets.training.schedule import Schedule
from hashpress.hashnets.training.train import train
from hashpress.modelfile.file import load, save

NEEDED = {"cp": {"rank": 4}, "lowrank": {"speedup": 2.0}, "narrow": {"ratio": 0.5}, "prune": {"density": 0.5}}


@pytest.mark.parametrize(
    ("name", "setting"), [(name, field.name) for name, kind in PASSES.items() for field in fields(kind)]
)
def test_every_setting_refuses_what_is_no_setting(name, setting):
    with pytest.raises(RecipeError, match=rf"{name}: {setting} must be .*, found <object object"):
        PASSES[name](**NEEDED.get(name, {}) | {setting: object()})


def test_all_wrong_types_are_named_together():
    with pytest.raises(RecipeError) as caught:
        Int8(bits={"*": 2.5}, skip="head", images=np.float64(3))
    assert list(caught.value.problems) == [
        "int8: bits must be a whole number or a table of whole numbers by name, found {'*': 2.5}",
        "int8: skip must be a list of texts, found 'head'",
        "int8: images must be a whole number, found 3.0",
    ]


@pytest.mark.parametrize(
    ("name", "given", "found"),
    [
        (
            "prune",
            {"density": 1.5, "scope": "planet", "stages": 0, "images": True},
            [
                "images must be a whole number",
                "unknown scope 'planet'",
                "stages must be at least 1",
                "in [0, 1], got 1.5",
            ],
        ),
        ("prune", {"density": "half", "images": 0}, ["density must be a number", "images must be at least 1"]),
        ("prune", {"densty": 0.5, "images": 0}, ["did you mean 'density'", "images must be at least 1"]),
        ("prune", {"foo": 0.5}, ["unknown setting 'foo'", "give one of density, q and flips"]),
        (
            "prune",
            {"density": 0.5, "stages": 2, "finetune": {"epoch": 3}, "scope": "x"},
            ["finetune: unknown setting 'epoch'", "unknown scope 'x'"],
        ),
        (
            "share",
            {"lam": "much", "importance": "outputs", "start": "x"},
            ["lam must be a number", "unknown start 'x'"],
        ),
        ("lowrank", {"speedup": "4", "three_d": True, "places": 0}, ["speedup must be", "places must be at least 1"]),
        ("finetune", {"lr": "x", "epochs": -1, "match": "y"}, ["lr must be", "epochs must be at least 0", "match 'y'"]),
        ("prune", {"density": 0.5}, []),
    ],
)
def test_a_wrong_type_hides_no_mistake_and_makes_none_up(name, given, found):
    """What only the absence of a mistaken setting would make wrong is not told."""
    problems = problems_of(PASSES[name], given, "here")
    assert len(problems) == len(found)
    for part in found:
        assert sum(part in problem for problem in problems) == 1, part


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda: Int8(bits={0: 4}), "bits must be a whole number or a table of whole numbers by name, found {0: 4}"),
        (lambda: Finetune(settings={1: 2.0}), "settings must be a table of numbers by name"),
        (lambda: Prune(density=0.5, finetune=Schedule()), "finetune must be Finetune or a table, found Schedule"),
        (lambda: Schedule(epochs="20"), "schedule: epochs must be a whole number, found '20'"),
        (lambda: Schedule(epochs=2.5), "schedule: epochs must be a whole number, found 2.5"),
        (lambda: default_arch("lenet300", "32"), "arch: bits must be a whole number, found '32'"),
        (lambda: default_arch("lenet300", 32, (1, 8, 8)), r"arch: input must be Input, found \(1, 8, 8\)"),
        (lambda: Int8(rounding="learned", lr=float("inf")), "images, batch, steps and lr must be positive"),
    ],
)
def test_wrong_types_are_named(make, found):
    with pytest.raises(InputError, match=found):
        make()


def test_lists_are_tuples_and_numbers_of_numpy_plain():
    work = Int8(bits={"*": np.int64(4)}, skip=["head"], lr=np.float32(0.5), images=np.int32(9))
    assert work == Int8(bits={"*": 4}, skip=("head",), lr=0.5, images=9)
    assert [type(value) for value in (work.bits["*"], work.skip, work.lr, work.images)] == [int, tuple, float, int]
    arch = default_arch("lenet300", np.int64(16), ImageInput([1, 8, 8], np.float32([0.5]), [np.float64(0.25)]))
    assert json.loads(json.dumps(arch.to_json())) == arch.to_json()
    assert arch.input == ImageInput((1, 8, 8), (0.5,), (0.25,))
    recipe = Recipe.of(Prune(density=np.float64(0.5)))
    assert parse(recipe.to_toml().encode(), "again").passes() == recipe.passes()


def test_a_run_in_python_ends_in_a_file(tmp_path):
    split = load_data("digits?limit=120")
    start = untrained(default_arch("lenet300", np.int64(16), ImageInput.of(split), widths=[20, 10]))
    schedule = Schedule(epochs=np.int64(1), batch=np.int64(32))
    net = train(start, split, "dlbhc", schedule, seed=np.int64(1), checkpoint=str(tmp_path / "checkpoint"))
    small = Recipe.of(Prune(density=0.5), Int8(images=30)).run(net, split, out=tmp_path / "a.safetensors", seed=1)
    save(Prune(density=0.5)(small, split, seed=np.int64(1)), tmp_path / "b.safetensors")
    assert [step.seed for step in load(tmp_path / "b.safetensors").history][-1] == 1
    assert np.array_equal(
        outputs(load(tmp_path / "a.safetensors"), split.queries.pixels), outputs(small, split.queries.pixels)
    )
