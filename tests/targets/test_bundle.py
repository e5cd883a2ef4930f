"""Bundles: written whole or not at all, run without torch, refused in one line when damaged."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hashpress.compress.passes import Prune, Share
from hashpress.core.errors import DeviceError, InputError, TargetError
from hashpress.core.inputs import ImageInput
from hashpress.core.model import Arch, HashModel
from hashpress.hashnets.build import build, untrained
from hashpress.hashnets.retrieval.codes import outputs, pack
from hashpress.modelfile.file import load, save
from hashpress.targets import onnx
from hashpress.targets.bundle import elf_machine, open_bundle
from hashpress.targets.compile import compile_model
from hashpress.targets.ffi import aligned
from hashpress.targets.onnx import export_onnx, open_session
from hashpress.targets.runtime import Runtime

ARCH = Arch("smallconv", 20, ImageInput((3, 16, 16), (0.5, 0.4, 0.3), (0.2, 0.3, 0.25)))
PIXELS = np.random.default_rng(3).integers(0, 256, (7, 3, 16, 16), dtype=np.uint8)


@pytest.fixture(scope="module")
def model() -> HashModel:
    return untrained(ARCH, seed=1)


@pytest.fixture(scope="module")
def bundle(model, tmp_path_factory) -> Path:
    return compile_model(model, "host", tmp_path_factory.mktemp("bundles") / "small.bundle").path


@pytest.fixture
def copy(bundle, tmp_path) -> Path:
    there = tmp_path / "copy.bundle"
    there.mkdir()
    for file in bundle.iterdir():
        (there / file.name).write_bytes(file.read_bytes())
    return there


def test_outputs_and_codes_are_torchs(model, bundle):
    runtime, wanted = Runtime(bundle), outputs(model, PIXELS)
    found = runtime.outputs(runtime.normalise(PIXELS))
    assert np.abs(found - wanted).max() < 1e-5 * np.abs(wanted).max()
    assert np.abs(wanted).min() > 1e-4  # no output so near zero that its bit would be open
    assert (runtime.encode(PIXELS) == pack(wanted)).all()
    assert runtime.encode(PIXELS[:0]).shape == (0, 3)


def test_normalising_is_bit_for_bit_the_models(model, bundle):
    assert (Runtime(bundle).normalise(PIXELS) == model.arch.input.normalise(PIXELS).numpy()).all()


def test_threads_change_nothing(bundle):
    one, three = Runtime(bundle), Runtime(bundle, threads=3)
    inputs = one.normalise(PIXELS)
    assert (one.outputs(inputs) == three.outputs(inputs)).all()
    assert (one.outputs(inputs) == one.outputs(inputs)).all()


def test_the_c_target_agrees_with_the_host(model, bundle, tmp_path):
    other, host = Runtime(compile_model(model, "c", tmp_path / "c.bundle").path), Runtime(bundle)
    inputs = host.normalise(PIXELS)
    assert np.abs(other.outputs(inputs) - host.outputs(inputs)).max() < 1e-5 * np.abs(host.outputs(inputs)).max()
    assert (other.encode(PIXELS) == host.encode(PIXELS)).all()


def test_a_fresh_process_runs_it_without_torch_or_a_compiler(bundle):
    code = (
        "import sys; from hashpress.targets.runtime import Runtime\n"
        f"print(Runtime({str(bundle)!r}).verify().differing, sorted({{'torch', 'tvm', 'onnxruntime'}} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("0 []\n", "")


def test_manifest_tells_sizes_memory_and_work(bundle):
    manifest = open_bundle(bundle).manifest
    assert manifest["files"].keys() == {"lib.so", "model.safetensors", "golden.npz", *manifest["native"]["files"]}
    for name, entry in manifest["files"].items():
        assert entry["bytes"] == (bundle / name).stat().st_size
    macs = {step["name"]: step["macs"] for step in manifest["steps"]}
    assert macs["encoder.conv1"] == 16 * 16 * 32 * 3 * 25
    assert macs["head"] == 500 * 20
    weights = sum(tensor.numel() for tensor in build(ARCH, seed=1).state_dict().values())
    assert manifest["memory"]["weights"] == 4 * weights
    largest = 4 * 32 * 16 * 16  # the first convolution's result, which must be held while its border and input are too
    assert largest <= manifest["memory"]["activations"] <= 4 * largest
    assert (bundle / "lib.so").stat().st_size < 4 * weights / 2  # no weights inside


def test_layer_times_name_every_step(bundle):
    runtime = Runtime(bundle)
    times = runtime.layer_times(runtime.normalise(PIXELS[:1]), repeats=3)
    assert list(times) == [step["name"] for step in open_bundle(bundle).manifest["steps"]]
    assert all(values.shape == (3,) and (values > 0).all() for values in times.values())


def test_two_compilations_give_the_same_bytes(model, bundle, tmp_path):
    again = compile_model(model, "host", tmp_path / "again.bundle").path
    for name in ("lib.so", "model.safetensors", "golden.npz", "manifest.json"):
        assert (again / name).read_bytes() == (bundle / name).read_bytes(), name


def test_compiling_over_a_bundle_replaces_it_and_both_can_be_open(model, copy):
    old = Runtime(copy)
    other = untrained(ARCH, seed=2)
    new = Runtime(compile_model(other, "host", copy).path)
    inputs = old.normalise(PIXELS)
    assert np.abs(old.outputs(inputs) - outputs(model, PIXELS)).max() < 1e-3
    assert np.abs(new.outputs(inputs) - outputs(other, PIXELS)).max() < 1e-3
    assert [path.name for path in copy.parent.iterdir()] == [copy.name]


def test_a_compressed_model_is_decoded_when_opened(model, tmp_path):
    small = Share(bits=4, scaled=True, lam=0.05)(Prune(density=0.5)(model))
    save(small, tmp_path / "m.safetensors")
    made = compile_model(load(tmp_path / "m.safetensors"), "host", tmp_path / "b.bundle")
    assert (made.path / "model.safetensors").read_bytes() == (tmp_path / "m.safetensors").read_bytes()
    assert (made.path / "model.safetensors").stat().st_size < 200_000
    found = Runtime(made.path)
    np.testing.assert_allclose(found.outputs(found.normalise(PIXELS)), outputs(small, PIXELS), atol=1e-5)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["lib.so", "model.safetensors", "golden.npz"])
@pytest.mark.parametrize(
    ("damage", "words"), [(Path.unlink, "is missing"), (truncated, "bytes, its manifest says"), (flipped, "SHA-256")]
)
def test_damaged_files_are_refused(copy, name, damage, words):
    damage(copy / name)
    with pytest.raises(TargetError, match=words) as caught:
        Runtime(copy)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": 1}', '{"format": 2}'])
def test_damaged_manifests_are_refused(copy, text):
    (copy / "manifest.json").write_text(text)
    with pytest.raises(TargetError, match=r"manifest\.json"):
        open_bundle(copy)


def rewritten(bundle: Path, change) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    change(manifest)
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def forged(bundle: Path, name: str, data: bytes) -> None:
    (bundle / name).write_bytes(data)
    entry = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    rewritten(bundle, lambda manifest: manifest["files"].update({name: entry}))


def test_a_library_for_another_machine_is_refused(copy):
    data = bytearray((copy / "lib.so").read_bytes())
    data[18:20] = (183).to_bytes(2, "little")
    forged(copy, "lib.so", bytes(data))
    assert elf_machine(copy / "lib.so") == "aarch64"
    with pytest.raises(TargetError, match="is for aarch64, this machine is"):
        Runtime(copy)


def test_instructions_that_this_machine_lacks_are_refused(copy):
    rewritten(copy, lambda manifest: manifest["target"].update(needs=["avx4096"]))
    with pytest.raises(TargetError, match="needs avx4096"):
        Runtime(copy)


def test_what_is_no_library_is_refused(copy):
    forged(copy, "lib.so", b"MZ" + bytes(100))
    with pytest.raises(TargetError, match="is not a shared library"):
        Runtime(copy)
    forged(copy, "lib.so", (copy / "model.safetensors").read_bytes()[:0] + b"\x7fELF\x02\x01" + bytes(12) + b"\x3e\x00")
    with pytest.raises(TargetError, match="cannot be loaded"):
        Runtime(copy)


def test_a_model_file_of_another_network_is_refused(copy, tmp_path):
    arch = Arch("lenet300", 20, ARCH.input)
    save(untrained(arch), tmp_path / "other.safetensors")
    forged(copy, "model.safetensors", (tmp_path / "other.safetensors").read_bytes())
    with pytest.raises(TargetError, match=r"takes encoder\.conv1\.weight of shape"):
        Runtime(copy)


def test_golden_codes_that_come_out_otherwise_are_a_device_error(copy, monkeypatch):
    runtime = Runtime(copy)
    assert runtime.verify().bits == 80
    monkeypatch.setattr(runtime, "outputs", lambda inputs: -Runtime.outputs(runtime, inputs))
    with pytest.raises(DeviceError, match="80 of 80 golden bits differ"):
        runtime.verify()
    with np.load(copy / "golden.npz") as file:
        golden = dict(file)
    golden["outputs"] = np.zeros_like(golden["outputs"])
    np.savez(copy / "golden.npz", **golden)
    assert 0 < runtime.verify().differing < 80  # zeros have no margin: flips are counted, not raised


@pytest.mark.parametrize("place", [(0, 0), (1, 7), (2, 8), (3, 19)])
def test_one_wrong_golden_bit_is_enough(copy, place):
    """The codes of 4 images with 20 bits, of which one is another than torch's: first, last and byte edges."""
    with np.load(copy / "golden.npz") as file:
        golden = dict(file)
    assert np.abs(golden["outputs"][place]) > 1e-3
    golden["outputs"][place] *= -1
    np.savez(copy / "golden.npz", **golden)
    forged(copy, "golden.npz", (copy / "golden.npz").read_bytes())
    with pytest.raises(DeviceError, match="1 of 80 golden bits differ beyond a margin"):
        Runtime(copy).verify()


@pytest.mark.parametrize(("margin", "raises"), [(0.99e-4, False), (1.01e-4, True), (-0.99e-4, False), (-1.01e-4, True)])
def test_a_bit_may_differ_only_within_the_margin(copy, monkeypatch, margin, raises):
    with np.load(copy / "golden.npz") as file:
        golden = dict(file)
    golden["outputs"][2, 3] = margin
    np.savez(copy / "golden.npz", **golden)
    forged(copy, "golden.npz", (copy / "golden.npz").read_bytes())
    runtime = Runtime(copy)
    found = golden["outputs"].copy()
    found[2, 3] = -margin
    monkeypatch.setattr(runtime, "outputs", lambda inputs: found)
    if raises:
        with pytest.raises(DeviceError, match="1 of 80 golden bits"):
            runtime.verify()
    else:
        assert runtime.verify().differing == 1


def test_an_output_that_is_no_number_is_wrong(copy, monkeypatch):
    runtime = Runtime(copy)
    with np.load(copy / "golden.npz") as file:
        found = file["outputs"].copy()
    wrong = int(np.argmax(found.ravel() < 0))  # NaN is not >= 0, as this bit should be
    found.ravel()[wrong] = np.nan
    monkeypatch.setattr(runtime, "outputs", lambda inputs: found)
    with pytest.raises(DeviceError, match="golden bits differ"):
        runtime.verify()


@pytest.mark.parametrize("inputs", [PIXELS, np.zeros((1, 3, 16, 15), np.float32), np.zeros((3, 16, 16), np.float32)])
def test_inputs_of_another_kind_are_refused(bundle, inputs):
    with pytest.raises(InputError, match="takes float32 images of shape"):
        Runtime(bundle).outputs(inputs)


def test_no_thread_is_too_few(bundle):
    with pytest.raises(InputError, match="at least one thread"):
        Runtime(bundle, threads=0)


def test_nothing_stays_behind_when_compiling_fails(model, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hashpress.targets.compile.save", full)
    with pytest.raises(TargetError, match="No space left on device"):
        compile_model(model, "host", tmp_path / "b.bundle")
    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_hold_a_bundle(model, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    with pytest.raises(TargetError, match="exists and is no bundle"):
        compile_model(model, "host", tmp_path / "mine")
    with pytest.raises(TargetError, match="cannot write"):
        compile_model(model, "host", tmp_path / "no" / "folder")
    with pytest.raises(TargetError, match="unknown target 'hots'; did you mean 'host'"):
        compile_model(model, "hots", tmp_path / "b")


def test_onnx_gives_torchs_codes_at_any_batch(model, tmp_path):
    export_onnx(model, tmp_path / "m.onnx")
    session = open_session(tmp_path / "m.onnx")
    images = model.arch.input.normalise(PIXELS)
    with torch.inference_mode():
        wanted = model.net(images).numpy()
    for batch in (1, 2, 7):
        found = session.run(["outputs"], {"images": images[:batch].numpy()})[0]
        assert np.abs(found - wanted[:batch]).max() < 1e-5 * np.abs(wanted).max()


def test_onnx_that_computes_something_else_is_not_kept(model, tmp_path, monkeypatch):
    real = onnx.open_session

    class Wrong:
        def __init__(self, path):
            self.session = real(path)
            self.get_inputs = self.session.get_inputs

        def run(self, names, feeds):
            return [-value for value in self.session.run(names, feeds)]

    monkeypatch.setattr(onnx, "open_session", Wrong)
    with pytest.raises(TargetError, match="other bits beyond a margin"):
        export_onnx(model, tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("count", [0, 1, 5, 1000])
def test_memory_begins_at_a_cache_line(count):
    assert aligned(count).ctypes.data % 64 == 0
    assert aligned(count).shape == (max(count, 1),)
