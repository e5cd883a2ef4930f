"""``hashpress ls``: what is read from the source of the registries is what the registries hold, and torch stays out."""

from __future__ import annotations

import json
import subprocess
import sys
from inspect import getmodule

import pytest
from hashpress.cli.ls import listing, measured
from hashpress.cli.main import run
from hashpress.cli.support.registries import first_line
from hashpress.compress.passes import PASSES
from hashpress.compress.recipe.load import load_recipe, named_recipes
from hashpress.core.data import DATASETS
from hashpress.hashnets.encoders import ENCODERS
from hashpress.hashnets.importers import IMPORTERS
from hashpress.hashnets.systems import SYSTEMS
from hashpress.profiling.metrics import METRICS
from hashpress.targets.table import TARGETS


def documented(registry) -> dict[str, str]:
    return {name: first_line(getmodule(thing).__doc__) for name, thing in registry.items()}


def described(registry) -> dict[str, str]:
    return {name: thing.about for name, thing in registry.items()}


HELD = {
    "systems": lambda: documented(SYSTEMS),
    "encoders": lambda: described(ENCODERS),
    "passes": lambda: documented(PASSES),
    "targets": lambda: described(TARGETS),
    "datasets": lambda: described(DATASETS),
    "recipes": lambda: {name: load_recipe(name).about for name in named_recipes()},
    "formats": lambda: documented(IMPORTERS),
    "figures": lambda: {name: f"{metric.what} [{metric.unit}]" for name, metric in METRICS.items()},
}


@pytest.mark.parametrize("kind", HELD)
def test_what_is_listed_is_what_the_registry_holds(kind):
    found = listing(kind)[kind]
    assert found == HELD[kind]()
    assert all(found.values())


def test_every_kind_is_listed(capsys):
    assert run(["ls", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == [*HELD, "measured"]


def test_every_recipe_has_its_measured_figures(capsys):
    found = measured()
    assert sorted(found) == named_recipes(), "run: python -m benchmarks.recipes"
    for row in found.values():
        assert row["bytes"][0] > row["bytes"][1] > 0
        assert row["speed"] > 0
        assert 0 < row["map"][1] <= 1
    assert run(["ls", "recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    row = found["int8"]
    line = next(line for line in lines if line.startswith("  int8 "))
    for part in (f"1/{row['bytes'][0] / row['bytes'][1]:.1f}", f"{row['speed']:.2f}x", f"{row['flips']:.1%}"):
        assert part in line
    assert load_recipe("int8").about.split()[0] in line


def test_targets_say_what_they_need_and_what_runs_them_here(capsys, monkeypatch):
    monkeypatch.setattr("hashpress.targets.summary.host_machine", lambda: "x86_64")
    monkeypatch.setattr("hashpress.targets.summary.cpu_flags", lambda: frozenset(TARGETS["x86-64-v3"].needs))
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/it" if name == "qemu-aarch64" else None)
    assert run(["ls", "targets", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert list(rows) == list(TARGETS)
    places = {name: row["runs_on"] for name, row in rows.items()}
    assert {name for name, place in places.items() if place == "local"} == {"host", "c", "x86-64-v2", "x86-64-v3"}
    assert {name for name, place in places.items() if place == ""} == {"x86-64-v4", "armv7", "cortex-a7", "cortex-a15"}
    assert rows["cortex-a76"]["vectors"] == "32 x 128 bits"
    assert "asimddp" in rows["cortex-a76"]["needs"]
    assert run(["ls", "targets"]) == 0
    assert "asimddp" in capsys.readouterr().out


def test_listing_imports_nothing_heavy():
    code = (
        "import sys; from hashpress.cli.main import run; run(['ls']); run(['ls', 'targets']); "
        "sys.exit(' '.join({'torch', 'tvm', 'numpy', 'sklearn', 'matplotlib'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
