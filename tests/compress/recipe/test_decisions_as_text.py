"""What people read of a decision and of a step that ended well, and ended badly all the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hashpress.cli.main import run
from hashpress.compress.base import Context
from hashpress.compress.factorize.tensors import cpd
from hashpress.compress.passes import PASSES, Cp, Fastfood, Finetune, Fold, Merge, Narrow
from hashpress.compress.recipe.decisions import described, skipped_in_brief, treated
from hashpress.compress.recipe.ledger import Line, warnings_of
from hashpress.compress.recipe.load import Recipe, compress
from hashpress.core.data import load_data
from hashpress.core.data.images import Split
from hashpress.core.inputs import ImageInput
from hashpress.core.model import HashModel
from hashpress.hashnets.build import default_arch, untrained


@pytest.fixture(scope="module")
def split() -> Split:
    return load_data("digits?limit=120")


@pytest.fixture(scope="module")
def conv(split: Split) -> HashModel:
    return untrained(default_arch("smallconv", 16, ImageInput.of(split), widths=(6, 6, 8, 20)), seed=3)


@pytest.fixture(scope="module")
def dense(split: Split) -> HashModel:
    return untrained(default_arch("lenet300", 10, ImageInput.of(split), widths=(30, 20)), seed=3)


NEEDED: dict[str, Any] = {
    "cp": {"rank": 2, "sweeps": 2}, "lowrank": {"energy": 0.9, "solver": "filter"},
    "narrow": {"ratio": 0.5}, "prune": {"density": 0.5}, "int8": {"images": 20}, "merge": {"share": 0.3},
}  # fmt: skip


@pytest.mark.parametrize("name", PASSES)
def test_every_layer_and_reason_of_every_pass_is_told_and_counted(name, conv, split):
    decision = PASSES[name](**NEEDED.get(name, {})).decide(conv, Context(split)).data
    lines = "\n".join(described(decision))
    tables = [value for value in decision.values() if isinstance(value, dict)]
    for path in {path for table in tables for path in table}:
        assert path in lines
    for reason in decision.get("skipped", {}).values():
        assert reason in lines
    of_layers = PASSES[name].phase in ("structure", "values")
    assert (treated(decision) is not None) == of_layers
    if of_layers:
        assert treated(decision) > 0


def test_a_decision_is_told_layer_by_layer(conv):
    decision = Cp(rank=2, sweeps=2).decide(conv, Context()).data
    assert described(decision) == [
        "encoder.conv2  form cp3, ranks 2, macs 14,400 -> 1,184, parameters 906 -> 80",
        "encoder.conv3  form cp3, ranks 2, macs 4,800 -> 312, parameters 1,208 -> 86",
        "skipped: encoder.conv1: skipped by the settings",
        "skipped: encoder.fc1, head: a dense layer has no spatial axes; lowrank treats it",
    ]
    assert skipped_in_brief(decision) == (
        "skipped, 3 layers: a dense layer has no spatial axes; lowrank treats it (2); skipped by the settings (1)"
    )
    assert described(Narrow(ratio=0.5).decide(conv, Context()).data)[0] == "encoder.conv1  widths 6 -> 3"
    assert described(Finetune(epochs=2).decide(conv, Context()).data) == [
        "trained 2,786, held at zero 0, epochs 2, steps None"
    ]


@pytest.mark.parametrize(
    ("decision", "text"),
    [
        ({"layers": {}, "skipped": {"a": "dense", "b": "dense"}}, "nothing was done: dense"),
        (
            {"widths": {}, "skipped": {"*": "the network cannot be traced"}},
            "nothing was done: the network cannot be traced",
        ),
        ({"layers": {"a": {"neurons": 9, "removed": 0}}, "skipped": {}}, "nothing was done: no layer is of the kind"),
        ({"density": {}, "skipped": {}}, "nothing was done: no layer"),
        ({"density": {"a": 0.5}, "skipped": {}}, ""),
        ({"fold": {}, "skipped": {}}, ""),
        ({"fold": {}, "skipped": {"bn": "called 2 times"}}, "skipped, 1 layer: called 2 times"),
        ({"trained": 3, "epochs": 2}, ""),
        ({}, ""),
        (
            {"layers": {"z": {}}, "skipped": {name: f"reason {name if name in 'abcd' else 'x'}" for name in "abcdefg"}},
            "skipped, 7 layers: reason x (3); reason a (1); reason b (1); 2 more reasons",
        ),
    ],
)
def test_nothing_done_and_skipped_layers_are_one_line(decision, text):
    assert skipped_in_brief(decision).startswith(text)
    assert bool(skipped_in_brief(decision)) == bool(text)
    line = str(Line(1, "x", decision=decision, figures={"bytes": 5}))
    assert line.count("\n") == bool(text)


def test_a_pass_that_did_nothing_says_so_on_the_terminal(dense, split):
    lines = Recipe.of(Fold(), Cp(rank=2), Merge(share=0.0)).preview(dense, split).lines
    assert "nothing was done" not in str(lines[1]), "no norms are no news"
    assert "nothing was done: a dense layer has no spatial axes; lowrank treats it" in str(lines[2])
    assert "no layer is changed" in lines[2].in_full()
    assert "nothing was done" in str(lines[3])


@pytest.mark.parametrize(("flips", "warned"), [(0.2, False), (0.2001, True), (0.5, True), (0.0, False)])
def test_many_flipped_bits_are_warned_of(flips, warned):
    assert bool(warnings_of({"bytes": 3, "flips": flips}, None)) == warned
    assert warnings_of({"bytes": 3}, None) == []


def test_a_ruined_network_is_warned_of_in_ledger_and_file(dense, split, tmp_path):
    recipe = Recipe.of(Fold(), Fastfood(skip=()))
    compress(dense, recipe, split, out=tmp_path / "out.st")
    lines = [Line(**line) for line in json.loads((tmp_path / "out.st.ledger.json").read_text())]
    for line in lines[1:]:
        assert bool(line.warnings) == (line.figures["flips"] > 0.2)
    assert lines[2].warnings
    assert "    warning: " in str(lines[2])
    assert "bits are no longer those of the uncompressed network" in str(lines[2])


def test_the_alarm_of_cp_is_in_the_ledger(conv, split, monkeypatch):
    recipe = Recipe.of(Cp(rank=2, sweeps=2), Finetune(), measure=())
    assert [list(line.warnings) for line in recipe.preview(conv, split).lines] == [[], [], []]
    monkeypatch.setattr(cpd, "BOUND", 0.0)
    lines = recipe.preview(conv, split).lines
    assert [len(line.warnings) for line in lines] == [0, 1, 0], "only where it is a step of its own"
    assert "warning: degenerate fit of encoder.conv2, encoder.conv3" in str(lines[1])


def test_a_dry_run_prints_the_decisions(model_file, capsys):
    words = ["compress", str(model_file), "--recipe", "deep-compression", "--data", "digits?limit=100", "--dry-run"]
    assert run(words) == 0
    text = capsys.readouterr().out
    assert "head" in text
    assert "density 0.5" in text
    assert "entries" in text
    assert run([*words, "--json"]) == 0
    steps = json.loads(capsys.readouterr().out)["steps"]
    assert steps[2]["decision"]["density"]["head"] == 0.5
    assert set(steps[3]["decision"]["layers"]) == {"encoder.fc1", "encoder.fc2", "head"}
