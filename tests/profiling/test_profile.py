"""A profile of a real bundle: figures in their units by other means, the evaluation's network, processes and pairs."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hashpress.cli.main import run
from hashpress.core.errors import InputError, ReportError
from hashpress.core.files import sha256_file
from hashpress.core.inputs import ImageInput
from hashpress.core.model import Arch
from hashpress.hashnets.build import untrained
from hashpress.modelfile.file import save
from hashpress.profiling.noop import resolution
from hashpress.profiling.profile import latency_figures, profile, timing_of
from hashpress.profiling.quality import load_evaluation, require_same_network
from hashpress.profiling.report import Report, load_report
from hashpress.profiling.rounds import disturbances, measure_processes, take_turns
from hashpress.profiling.uncertainty import Interval
from hashpress.targets.bundle import open_bundle
from hashpress.targets.devices.fresh import peak_bytes, resident_bytes, restart_peak
from hashpress.targets.devices.local import LocalDevice
from program import refused

ARCH = Arch("lenet300", 16, ImageInput((1, 8, 8), (0.3,), (0.35,)))
QUICK = ["--repeats", "20", "--warmup", "1", "--seconds", "0.1", "--processes", "2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two networks, their evaluations, and their bundles: the second one's is the first one's with its model file."""
    place = tmp_path_factory.mktemp("profile")
    for name, seed in (("net", 0), ("other", 1)):
        save(untrained(ARCH, seed=seed), place / f"{name}.safetensors")
        evaluation = str(place / f"{name}-quality.json")
        assert (
            run(["evaluate", str(place / f"{name}.safetensors"), "--data", "digits?limit=300", "-o", evaluation]) == 0
        )
    assert run(["compile", str(place / "net.safetensors"), "-o", str(place / "net.bundle")]) == 0
    other = shutil.copytree(place / "net.bundle", place / "other.bundle")
    shutil.copy(place / "other.safetensors", other / "model.safetensors")
    manifest = json.loads((other / "manifest.json").read_text())
    size, digest = (other / "model.safetensors").stat().st_size, sha256_file(other / "model.safetensors")
    manifest["files"]["model.safetensors"] = {"bytes": size, "sha256": digest}
    (other / "manifest.json").write_text(json.dumps(manifest))
    return place


@pytest.fixture(scope="module")
def report(folder) -> Report:
    """The report of ``net.bundle`` with ``other.bundle`` as its baseline, written and read again."""
    arguments = [
        "--quality",
        folder / "net-quality.json",
        "--baseline",
        folder / "other.bundle",
        "-o",
        folder / "net.json",
    ]
    assert run(["profile", str(folder / "net.bundle"), *QUICK, *map(str, arguments)]) == 0
    return load_report(folder / "net.json")


def test_bytes_are_those_of_the_files(folder, report):
    sizes = {file.name: file.stat().st_size for file in (folder / "net.bundle").iterdir()}
    stored = {
        name: report.figures[f"storage.{name}"].value for name in ("file", "bundle", "library", "manifest", "golden")
    }
    assert stored == {
        "file": sizes["model.safetensors"],
        "bundle": sum(sizes.values()),
        "library": sizes["lib.so"],
        "manifest": sizes["manifest.json"],
        "golden": sizes["golden.npz"],
    }
    parameters = 64 * 300 + 300 + 300 * 100 + 100 + 100 * 16 + 16
    assert report.figures["storage.fp32"].value == 4 * parameters
    assert report.figures["memory.weights"].value == 4 * parameters


def test_times_are_milliseconds():
    """A network that takes 20 ms, opened in 30 ms, by the clock on the wall."""

    class Slow:
        bundle = type("B", (), {"input_shape": (1, 2, 2)})

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def bench(self, pixels, runs, warmup=0):
            start = time.perf_counter()
            time.sleep(0.02 * (runs + warmup))
            return np.full(runs, (time.perf_counter() - start) * 1e3 / (runs + warmup))

    class Phone(LocalDevice):
        def push(self, bundle, *, threads=1):
            time.sleep(0.03)
            return Slow()

    rows = measure_processes([Path("x")], Phone(), processes=2, repeats=4, warmup=0, seconds=0.05)[0]
    figures = latency_figures(rows)
    assert {figure.unit for figure in figures.values()} == {"ms"}
    assert 20 <= figures["latency.p50"].value < 60
    assert 30 <= figures["latency.open"].value < 90
    assert [row["runs"] for row in rows] == [2, 2]


def test_the_time_of_a_profile_fits_the_clock(folder):
    """Runs per second by the clock on the wall and the report's milliseconds are of one magnitude."""
    device = LocalDevice().push(folder / "net.bundle")
    pixels = np.zeros((1, 1, 8, 8), np.uint8)
    start = time.perf_counter()
    own = device.bench(pixels, 300)
    wall = (time.perf_counter() - start) * 1e3 / 300
    found = profile(folder / "net.bundle", repeats=100, warmup=5, seconds=0.2, processes=1)
    assert wall / 30 < found.figures["latency.min"].value < wall * 3
    assert found.figures["latency.min"].value < 3 * float(np.median(own))
    assert sum(layer.cost.value for layer in found.layers) < 30 * wall


def test_memory_of_the_network_is_apart_from_the_interpreters(report):
    idle, network, rss = (report.figures[f"memory.{name}"].value for name in ("idle", "network", "rss"))
    assert idle > 20e6  # Python, numpy and TVM
    assert report.figures["memory.weights"].value < network < 20e6
    assert rss >= network
    assert abs(rss - idle - network) < 10e6


def test_the_peak_starts_again():
    if not restart_peak():
        pytest.skip("this system cannot restart the peak of a process")
    before = resident_bytes()
    block = np.ones(40_000_000, np.uint8)
    grown = peak_bytes() - before
    del block
    assert 39e6 < grown < 80e6
    assert restart_peak()
    assert peak_bytes() - before < 30e6


def test_processes_and_the_baseline_are_in_the_report(folder, report):
    rows = report.timing["processes"]
    assert len(rows) == len(report.timing["baseline"]["processes"]) == 2
    assert report.figures["latency.p50"].value == pytest.approx(np.median([row["p50"] for row in rows]))
    assert report.figures["latency.min"].value == min(row["min"] for row in rows)
    assert report.timing["baseline"]["name"] == "other.bundle"
    manifest = json.loads((folder / "other.bundle" / "manifest.json").read_text())
    hashes = {name: entry["sha256"] for name, entry in manifest["files"].items()}
    assert report.timing["baseline"]["hashes"] == hashes
    assert set(report.hashes) == set(hashes)
    assert report.hashes["model.safetensors"] != hashes["model.safetensors"]


def test_check_holds_the_pair_against_its_limit(folder, report, capsys):
    (folder / "budget.toml").write_text('latency.p50 = "+900 %"\n')
    assert run(["check", str(folder / "net.json"), "--budget", str(folder / "budget.toml")]) == 0
    slow = [row | {"p50": 20 * row["p50"]} for row in report.timing["processes"]]
    replace(report, timing={**report.timing, "processes": slow}).save(folder / "slow.json")
    code = run(["check", str(folder / "slow.json"), "--budget", str(folder / "budget.toml")])
    assert code in (3, 5)  # two processes resolve little
    assert ", measured in" not in capsys.readouterr().out


def test_an_evaluation_of_another_network_is_refused(folder, capsys):
    error = refused(capsys, "profile", folder / "net.bundle", *QUICK, "--quality", folder / "other-quality.json")
    assert "the evaluation is of another network: it evaluated other.safetensors" in error


def test_an_evaluation_that_names_no_file_is_a_warning(folder, capsys):
    value = json.loads((folder / "other-quality.json").read_text())
    assert set(value.pop("model")) == {"name", "sha256"}
    (folder / "old.json").write_text(json.dumps(value))
    assert run(["profile", str(folder / "net.bundle"), *QUICK, "--quality", str(folder / "old.json")]) == 0
    assert "does not say which model file it evaluated" in capsys.readouterr().err


def test_the_file_that_was_compiled_is_recognised_though_the_bundle_holds_other_bytes(folder):
    evaluation = load_evaluation(folder / "net-quality.json")
    manifest = json.loads((folder / "net.bundle" / "manifest.json").read_text())
    assert manifest["source"]["sha256"] == evaluation["model"]["sha256"]
    other = {**evaluation, "model": {"name": "net", "sha256": "0" * 64}}
    with pytest.raises(ReportError, match="of another network"):
        profile(folder / "net.bundle", quality=other)
    for number in range(64):  # every digit of the hash counts
        digits = list(evaluation["model"]["sha256"])
        digits[number] = "0" if digits[number] != "0" else "1"
        with pytest.raises(ReportError):
            same_network(folder / "net.bundle", {**evaluation, "model": {"name": "net", "sha256": "".join(digits)}})


def same_network(bundle, quality):
    """The check of an evaluation alone."""
    require_same_network(quality, open_bundle(bundle).manifest)


def test_noop_says_what_is_resolved(folder, capsys):
    assert run(["profile", str(folder / "net.bundle"), "--noop", *QUICK]) == 0
    assert "are not resolved on this machine" in capsys.readouterr().out
    assert "takes no --quality" in refused(capsys, "profile", folder / "net.bundle", "--noop", "-o", "x.json")
    with pytest.raises(InputError, match="at least two processes"):
        resolution(folder / "net.bundle", processes=1)


def test_the_resolution_is_the_interval_of_the_ratio(folder, monkeypatch):
    def rows(*medians):
        calm = {"spread": 0.01, "runs": 10, "drift": 1.0, "mhz": [None, None], "preempted": 0}
        return [{"p50": value, **calm} for value in medians]

    pair = [rows(1.0, 1.01, 0.99, 1.02), rows(1.01, 1.0, 1.0, 1.01)]
    monkeypatch.setattr("hashpress.profiling.noop.measure_processes", lambda *_, **__: pair)
    found = resolution(folder / "net.bundle", processes=4)
    ratios = np.log([1.0 / 1.01, 1.01, 0.99, 1.02 / 1.01])
    reach = 3.182 * ratios.std(ddof=1) / 2  # Student's t with three degrees of freedom
    assert found.ratio.high == pytest.approx(np.exp(ratios.mean() + reach))
    assert found.smallest == pytest.approx(max(found.ratio.high - 1, 1 - found.ratio.low))
    assert found.to_json()["smallest"] == found.smallest


def test_the_interval_covers_the_median_as_often_as_it_says():
    generator = np.random.default_rng(1)
    for count in (2, 5, 12):
        samples = np.exp(generator.normal(0, 0.05, (600, count)))
        inside = [interval.low <= 1 <= interval.high for interval in map(Interval.of, samples)]
        assert 0.92 < np.mean(inside) < 0.98


def test_bundles_take_turns():
    calls = []

    class Deployed:
        bundle = type("B", (), {"input_shape": (1, 2, 2)})

        def __init__(self, name):
            self.name = name

        def bench(self, pixels, runs, warmup=0):
            calls.append((self.name, runs))
            return np.full(runs, 1.0)

    samples = take_turns([Deployed("a"), Deployed("b")], 20, 0, 0.0)
    assert [len(times) for times in samples] == [20, 20]
    assert calls == [("a", 5), ("b", 5), ("b", 5), ("a", 5), ("a", 5), ("b", 5), ("b", 5), ("a", 5)]


def test_signs_of_a_disturbed_measurement():
    calm = {"drift": 1.0, "mhz": [2000, 2000], "preempted": 0, "runs": 50, "p50": 1.0, "spread": 0.01}
    assert disturbances([calm] * 3, 0.01) == []
    (line,) = disturbances([calm] * 3, 0.2)
    assert "processes differ" in line
    (line,) = disturbances([calm, *[calm | {"drift": 1.3}] * 2], 0.01)
    assert line == "runs became 30 % slower within a process: throttled or disturbed"
    (line,) = disturbances([calm | {"mhz": [2000, 1500]}], 0.0)
    assert "fell to 1500 MHz" in line
    (line,) = disturbances([calm | {"preempted": 100}], 0.0)
    assert "2.0 times per run" in line
    assert timing_of([calm])["between"] is None


def test_a_process_that_fails_is_a_device_error(folder, monkeypatch, capsys):
    monkeypatch.setattr("sys.executable", "/bin/false")
    assert "the process that" in refused(capsys, "profile", folder / "net.bundle", *QUICK, code=4)


def test_torch_agrees_about_parameters():
    net = untrained(ARCH, seed=0).net
    assert sum(p.numel() for p in net.parameters() if p.dtype is torch.float32) == 51_216
