"""Figures of a report: where each number comes from, and its unit."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hashpress.profiling import memory, profile
from hashpress.profiling.clock import Timing, measure, measure_samples
from hashpress.profiling.quality import quality_figures
from hashpress.profiling.report import Part
from hashpress.profiling.storage import storage_figures
from hashpress.targets.devices import fresh
from hashpress.targets.devices.base import Footprint
from helpers.reports import quality


def test_drops_are_the_originals_map_minus_the_compressed_ones():
    value = quality()
    value["original"]["map"], value["symmetric"]["map"], value["asymmetric"]["map"] = 0.9, 0.7, 0.85
    value["flips"] |= {"rate": 0.012, "weighted_rate": 0.5, "items_changed": 9}
    found = {name.removeprefix("quality."): figure.value for name, figure in quality_figures(value).items()}
    assert found == {
        "map": 0.7,
        "map_asymmetric": 0.85,
        "map_drop": pytest.approx(0.2),
        "map_drop_asymmetric": pytest.approx(0.05),
        "bit_flips": 0.012,
    }
    assert set(quality_figures({"symmetric": value["symmetric"]})) == {"quality.map"}


def test_the_file_is_the_bundle_without_what_compiling_adds():
    groups = {"values": 1000, "codebooks": 200, "biases": 30, "metadata": 4, "tables": 7}
    outside = {"library": 50_000, "manifest": 600, "golden": 8000, "other": 90}
    parts = [
        Part(f"{name}-{half}", name, size // 2 + half * (size % 2))
        for name, size in (groups | outside).items()
        for half in (0, 1)
    ]
    found = {name.removeprefix("storage."): figure for name, figure in storage_figures(parts).items()}
    assert {name: figure.value for name, figure in found.items()} == {
        "file": sum(groups.values()),
        "bundle": sum(groups.values()) + sum(outside.values()),
        **groups,
        **outside,
    }
    assert {figure.unit for figure in found.values()} == {"B"}


def test_memory_of_the_process_is_measured_and_the_plan_is_not():
    found = memory.memory_figures(Footprint(1.0, 9, 5, 4), {"weights": 3, "activations": 2})
    assert {name: (figure.value, figure.kind) for name, figure in found.items()} == {
        "memory.rss": (9, "measured"),
        "memory.idle": (5, "measured"),
        "memory.network": (4, "measured"),
        "memory.weights": (3, "static"),
        "memory.activations": (2, "static"),
    }


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux only")
def test_the_peak_is_in_bytes():
    """Beyond every earlier peak the kernel's two counters agree; getrusage's is in kilobytes of 1,024."""

    def largest():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    before = max(largest(), fresh.peak_bytes())
    block = np.ones((before - resident + 2**27) // 8)
    assert fresh.peak_bytes() == pytest.approx(largest(), rel=0.005)
    assert fresh.peak_bytes() >= before or not block.all()


def test_latencies_are_those_of_the_runs_and_layers_their_medians():
    samples = np.random.default_rng(0).lognormal(size=(3, 200))
    rows = [
        {
            "min": row.min(),
            "p50": np.median(row),
            "p90": np.quantile(row, 0.9),
            "p99": np.quantile(row, 0.99),
            "open": 4.0,
        }
        for row in samples
    ]
    figures = profile.latency_figures(rows)
    wanted = {name: np.median([row[name] for row in rows]) for name in ("p50", "p90", "p99")} | {"min": samples.min()}
    assert {name: figure.value for name, figure in figures.items() if name != "latency.open"} == {
        f"latency.{name}": pytest.approx(value) for name, value in wanted.items()
    }
    assert {figure.unit for figure in figures.values()} == {"ms"}
    assert set(profile.latency_figures(rows, "emulated")) == {"emulated.p50"}
    steps = {"conv2d": [1.0, 2.0, 90.0], "dense": [0.5, 0.1, 0.2]}
    device = SimpleNamespace(bundle=SimpleNamespace(input_shape=(3, 4, 4)), bench_steps=lambda pixels, count: steps)
    layers = profile._layers(device, 10, "measured")
    assert {layer.name: layer.cost.value for layer in layers} == {"conv2d": 2.0, "dense": 0.2}


def test_times_are_milliseconds(monkeypatch):
    now = 0

    def work():
        nonlocal now
        now += 3_000_000

    ours = SimpleNamespace(perf_counter_ns=lambda: now, perf_counter=lambda: now / 1e9)
    monkeypatch.setattr("hashpress.profiling.clock.time", ours)
    found = measure(work, warmup=2, min_runs=30, max_runs=30)
    assert (found.min_ms, found.p50_ms, found.p99_ms) == (3.0, 3.0, 3.0)


def test_runs_on_a_device_are_all_counted_once_and_converge_at_the_tolerance():
    calls = []

    def sample(count):
        calls.append(count)
        return [1.0] * count

    found = measure_samples(sample, min_runs=40, max_runs=40, seconds=0.0)
    assert (sum(calls), found.runs, found.p50_ms) == (40, 40, 1.0)
    ordered = np.sort(np.random.default_rng(0).uniform(0.9, 1.1, 400))
    exact = Timing.of(ordered).spread
    assert Timing.of(ordered, exact).converged
    assert not Timing.of(ordered, exact * 0.999).converged
