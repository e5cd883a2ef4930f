"""The whole product in seconds, through the functions that people call."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hashpress.compress.passes import Finetune, Fold, Prune, Share
from hashpress.compress.recipe.load import Recipe, compress
from hashpress.core.data import load_data
from hashpress.core.inputs import ImageInput
from hashpress.hashnets.build import default_arch, untrained
from hashpress.hashnets.retrieval.assess import assess
from hashpress.hashnets.retrieval.codes import outputs, pack
from hashpress.hashnets.training.schedule import Schedule
from hashpress.hashnets.training.train import train
from hashpress.modelfile.file import load, save
from hashpress.profiling.budget import check, parse_budget
from hashpress.profiling.html.page import render
from hashpress.profiling.profile import profile
from hashpress.profiling.report import load_report
from hashpress.targets.compile import compile_model
from hashpress.targets.runtime import Runtime


@pytest.fixture(scope="module")
def split():
    return load_data("digits")


@pytest.fixture(scope="module")
def base(split):
    arch = default_arch("lenet300", 16, ImageInput.of(split))
    empty = untrained(arch, seed=0)
    return train(empty, split, "dlbhc", Schedule(epochs=6, lr=0.003, optimizer="adam"), seed=0)


@pytest.fixture(scope="module")
def small(base, split, tmp_path_factory):
    """The compressed model's file."""
    recipe = Recipe.of(Fold(), Prune(density=0.5), Share(bits=4), Finetune(epochs=2))
    path = tmp_path_factory.mktemp("small") / "small.safetensors"
    compress(base, recipe, split, out=path, seed=0)
    return path


@pytest.fixture(scope="module")
def bundle(small, tmp_path_factory):
    return compile_model(load(small), "host", tmp_path_factory.mktemp("bundle") / "small.bundle").path


def test_it_learns(base, split):
    assert assess(base, split).symmetric.map > 0.8


def test_the_file_is_small_and_still_good(base, small, split, tmp_path):
    save(base, tmp_path / "base.safetensors")
    assert small.stat().st_size < (tmp_path / "base.safetensors").stat().st_size / 6
    found = assess(load(small), split, base)
    assert found.symmetric.map > found.original.map - 0.05
    assert found.asymmetric.map > found.original.map - 0.05
    assert found.flips.rate < 0.1


def test_two_runs_give_the_same_bytes(base, small, split, tmp_path):
    recipe = Recipe.of(Fold(), Prune(density=0.5), Share(bits=4), Finetune(epochs=2))
    compress(base, recipe, split, out=tmp_path / "again.safetensors", seed=0)
    assert (tmp_path / "again.safetensors").read_bytes() == small.read_bytes()


def test_the_bundle_computes_the_files_codes(small, bundle, split):
    model, runtime = load(small), Runtime(bundle)
    wanted = outputs(model, split.queries.pixels)
    found = runtime.outputs(runtime.normalise(split.queries.pixels))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    differing = (found >= 0) != (wanted >= 0)
    assert np.abs(wanted[differing]).max(initial=0) < 1e-4
    if not differing.any():
        np.testing.assert_array_equal(runtime.encode(split.queries.pixels), pack(wanted))


def test_the_report_of_the_bundle(base, small, bundle, split, tmp_path):
    quality = assess(load(small), split, base).to_json()
    report = profile(bundle, repeats=20, warmup=2, seconds=0.2, quality=json.loads(json.dumps(quality)))
    report.save(tmp_path / "r.json")
    assert load_report(tmp_path / "r.json") == report

    files = sum(path.stat().st_size for path in bundle.iterdir())
    assert sum(part.bytes for part in report.parts) == files == report.figures["storage.bundle"].value
    assert report.figures["storage.file"].value == small.stat().st_size
    assert [layer.name for layer in report.layers] == list(Runtime(bundle).steps)
    assert report.figures["memory.rss"].value > report.figures["memory.idle"].value > 1e6
    assert report.figures["memory.weights"].value == 4 * (64 * 300 + 300 + 300 * 100 + 100 + 100 * 16 + 16)
    assert report.figures["quality.bit_flips"].value == quality["flips"]["rate"]

    budget = parse_budget({"storage.file": "1 kB", "quality.map_drop": "5 points", "memory.rss": "2 GB"})
    (excess,) = check(report, budget)
    assert excess.metric == "storage.file"
    assert "encoder" in excess.why[0]
    render([report], tmp_path / "r.html")
    assert "encoder" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_memory_is_not_that_of_the_process_that_asks(bundle):
    hog = (
        "import json, sys; from pathlib import Path\n"
        "from hashpress.targets.devices.fresh import fresh_process\n"
        "big = bytearray(600_000_000)\n"
        "sys.stdout.write(json.dumps(vars(fresh_process(Path(sys.argv[1]), runs=1))))"
    )
    done = subprocess.run([sys.executable, "-c", hog, bundle], capture_output=True, text=True, timeout=120, check=True)
    found = json.loads(done.stdout)
    assert found["idle"] <= found["rss"] < 300_000_000
