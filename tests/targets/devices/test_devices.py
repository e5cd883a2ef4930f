"""Devices: this machine by the protocol that others will follow, and names that are refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hashpress.cli.main import run
from hashpress.core.errors import DeviceError, InputError
from hashpress.core.inputs import ImageInput
from hashpress.core.model import Arch
from hashpress.hashnets.build import untrained
from hashpress.modelfile.file import save
from hashpress.profiling.clock import measure_samples
from hashpress.profiling.profile import profile
from hashpress.targets.compile import compile_model
from hashpress.targets.devices.local import LocalDevice
from hashpress.targets.devices.table import DEVICES, parse_device
from hashpress.targets.runtime import Runtime
from program import refused

ARCH = Arch("lenet300", 12, ImageInput((1, 8, 8), (0.3,), (0.35,)))
PIXELS = np.random.default_rng(1).integers(0, 256, (5, 1, 8, 8), dtype=np.uint8)


@pytest.fixture(scope="module")
def model():
    return untrained(ARCH, seed=1)


@pytest.fixture(scope="module")
def bundle(model, tmp_path_factory) -> Path:
    return compile_model(model, "host", tmp_path_factory.mktemp("device") / "small.bundle").path


def test_the_local_device_computes_what_the_runtime_does(bundle):
    runtime, deployment = Runtime(bundle), LocalDevice().push(bundle, threads=2)
    inputs = runtime.normalise(PIXELS)
    assert np.array_equal(deployment.run(inputs), runtime.outputs(inputs))
    assert np.array_equal(deployment.encode(PIXELS), runtime.encode(PIXELS))
    assert deployment.verify().differing == 0
    assert (deployment.bundle.input_shape, deployment.bundle.bits) == ((1, 8, 8), 12)


def test_bench_gives_a_time_for_every_run(bundle, monkeypatch):
    deployment = LocalDevice().push(bundle)
    calls, outputs = [], Runtime.outputs
    monkeypatch.setattr(Runtime, "outputs", lambda self, inputs: calls.append(len(inputs)) or outputs(self, inputs))
    times = deployment.bench(PIXELS, 7, warmup=3)
    assert times.shape == (7,)
    assert (times > 0).all()
    assert calls == [1] * 10
    steps = deployment.bench_steps(PIXELS, 4)
    assert list(steps) == [step["name"] for step in deployment.bundle.manifest["steps"]]
    assert {samples.shape for samples in steps.values()} == {(4,)}


def test_files_come_back(bundle):
    deployment = LocalDevice().push(bundle)
    for file in bundle.iterdir():
        assert deployment.pull(file.name) == file.read_bytes()
    with pytest.raises(DeviceError, match=r"no file '../secret' \(there are: lib.so, model.safetensors, golden.npz"):
        deployment.pull("../secret")


def test_the_machine_is_described_in_json_values():
    about = LocalDevice().describe()
    assert json.loads(json.dumps(about)) == about
    assert {"cpu", "arch", "cores", "load"} <= about.keys()


def test_names_of_devices():
    assert parse_device("local") == LocalDevice()
    assert [parse_device(text).name for text in ("local", "ssh:pi@board:22", "adb", "qemu")] == [
        "local", "ssh:pi@board:22", "adb", "qemu",
    ]  # fmt: skip
    assert list(DEVICES) == ["local", "ssh", "adb", "qemu"]
    with pytest.raises(InputError, match=r"unknown device 'locl'; did you mean 'local'\? \(there are: local"):
        parse_device("locl")
    with pytest.raises(InputError, match="device local takes no address, found 'here'"):
        parse_device("local:here")


def test_the_verbs_name_their_device(bundle, model, tmp_path, capsys):
    save(model, tmp_path / "m.safetensors")
    np.save(tmp_path / "p.npy", PIXELS)
    inputs = (tmp_path / "p.npy", "-o", tmp_path / "codes.npy")
    assert "unknown device 'phone'" in refused(capsys, "encode", bundle, *inputs, "--device", "phone")
    assert "for --device phone, compile it to a bundle first" in refused(
        capsys, "encode", tmp_path / "m.safetensors", *inputs, "--device", "phone"
    )
    assert "unknown device 'phone'" in refused(capsys, "profile", bundle, "--device", "phone")
    assert not (tmp_path / "codes.npy").exists()
    assert run([str(word) for word in ("encode", bundle, *inputs, "--device", "local")]) == 0
    assert np.array_equal(np.load(tmp_path / "codes.npy"), Runtime(bundle).encode(PIXELS))


def test_a_profile_runs_on_the_device_it_is_given(bundle):
    class Elsewhere(LocalDevice):
        @property
        def name(self):
            return "elsewhere"

        def describe(self):
            return {"cpu": "abacus", "load": 0.0, "cores": 1}

        def push(self, bundle, *, threads=1):
            deployment = super().push(bundle, threads=threads)
            object.__setattr__(deployment, "bench", lambda pixels, runs, warmup=0: np.full(runs, 2.5))
            return deployment

    report = profile(bundle, repeats=40, warmup=0, seconds=5.0, device=Elsewhere())
    assert (report.device, report.machine["cpu"]) == ("elsewhere", "abacus")
    assert report.figures["latency.p50"].value == 2.5


def test_samples_are_asked_for_until_the_median_is_known():
    generator, asked = np.random.default_rng(2), []

    def sample(runs):
        asked.append(runs)
        return generator.uniform(0.8, 1.2, runs)

    found = measure_samples(sample, min_runs=20, seconds=60, tolerance=0.1)
    assert found.converged
    assert asked[:3] == [20, 5, 6][: len(asked)]
    assert 20 <= found.runs == sum(asked) < 100
    asked.clear()
    assert measure_samples(sample, min_runs=7, max_runs=9, seconds=60, tolerance=0).runs == 9
    assert asked == [7, 1, 1]


def test_samples_end_with_the_time(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("hashpress.profiling.clock.time.perf_counter", lambda: clock[0])
    lengths = np.random.default_rng(3).uniform(0.1, 9.0, 10_000)
    used = [0]

    def sample(runs):
        found = lengths[used[0] : used[0] + runs]
        used[0] += runs
        clock[0] += found.sum() / 1e3
        return found

    assert not measure_samples(sample, min_runs=10, seconds=0.4, tolerance=1e-6).converged
    assert 0.4 <= clock[0] < 0.45
