"""``hashpress ls``: what is read from the source of the registries is what the registries hold, and torch stays out."""

from __future__ import annotations

import json
import subprocess
import sys
from inspect import getmodule

import pytest
from hashpress.cli.ls import listing
from hashpress.cli.main import run
from hashpress.cli.registries import first_line
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
    assert list(json.loads(capsys.readouterr().out)) == list(HELD)


def test_listing_imports_nothing_heavy():
    code = (
        "import sys; from hashpress.cli.main import run; run(['ls']); "
        "sys.exit(' '.join({'torch', 'tvm', 'numpy', 'sklearn', 'matplotlib'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
