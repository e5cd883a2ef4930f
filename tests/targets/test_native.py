"""The native runtime of a bundle: the codes of Python's runtime to the bit, and one line for what is wrong."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hashpress.modelfile.file import load
from hashpress.targets.compile import compile_model
from hashpress.targets.native.build import FILES
from hashpress.targets.runtime import Runtime

ROOT = Path(__file__).parents[2]
MODELS = ("lenet300-dpsh", "smallest", "int8")


@pytest.fixture(scope="module", params=MODELS)
def runtime(request, tmp_path_factory) -> Runtime:
    out = tmp_path_factory.mktemp("native") / "one.bundle"
    compile_model(load(ROOT / "tests" / "frozen" / "models" / f"{request.param}.safetensors"), "host", out)
    return Runtime(out)


def run(bundle: Path, *words: object) -> subprocess.CompletedProcess[str]:
    command = [str(bundle / "hashnet-run"), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def pixels(runtime: Runtime) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (12, *runtime.input_shape), dtype=np.uint8)


def test_it_gives_the_codes_and_outputs_of_python(runtime, tmp_path):
    bundle, images = runtime.bundle.path, pixels(runtime)
    assert set(FILES) <= set(runtime.bundle.files)
    images.tofile(tmp_path / "raw")
    words = ("--verify", "--encode", tmp_path / "raw", "-o", tmp_path / "codes", "--outputs", tmp_path / "outputs")
    done = run(bundle, bundle / "model.safetensors", *words, "--bench", "2", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert (report["images"], report["differing"], report["bits"]) == (12, 0, runtime.bits)
    codes = np.fromfile(tmp_path / "codes", np.uint8).reshape(12, -1)
    assert np.array_equal(codes, runtime.encode(images))
    values = np.fromfile(tmp_path / "outputs", np.float32).reshape(12, -1)
    assert values.tobytes() == runtime.outputs(runtime.normalise(images)).tobytes()


def test_what_is_wrong_is_one_line(runtime, tmp_path):
    bundle = runtime.bundle.path
    content = bytearray((bundle / "model.safetensors").read_bytes())
    content[-20] ^= 1
    (tmp_path / "damaged").write_bytes(content)
    (tmp_path / "raw").write_bytes(b"123")
    model = bundle / "model.safetensors"
    cases = {
        "checksum": (tmp_path / "damaged",),
        "cannot read": (tmp_path / "nothing",),
        "another|no tensor": (ROOT / "docs" / "vectors" / "structure.safetensors",),
        "no whole number of images": (model, "--encode", tmp_path / "raw", "-o", tmp_path / "codes"),
    }
    for text, words in cases.items():
        done = run(bundle, *words)
        assert done.returncode != 0
        assert done.stderr.count("\n") == 1
        assert any(part in done.stderr for part in text.split("|")), done.stderr


def test_the_example_app_finds_the_nearest_code(runtime, tmp_path):
    bundle, images = runtime.bundle.path, pixels(runtime)
    source = ROOT / "examples" / "c" / "nearest.c"
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", f"-I{bundle}"]
    command = ["gcc", *flags, str(source), str(bundle / "libhashnet.a"), "-lm", "-o", str(tmp_path / "nearest")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    codes = runtime.encode(images)
    codes.tofile(tmp_path / "codes")
    images[7].tofile(tmp_path / "image")
    words = [str(tmp_path / "nearest"), str(bundle / "model.safetensors"), str(tmp_path / "image")]
    found = subprocess.run([*words, str(tmp_path / "codes")], capture_output=True, text=True, check=True).stdout.split()
    distances = np.unpackbits(codes ^ codes[7], axis=1).sum(1)
    assert [int(word) for word in found] == [int(distances.argmin()), 0]
