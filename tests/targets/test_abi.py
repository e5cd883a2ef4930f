"""The calling convention: the C header is the golden one, and a C program that includes it computes the same outputs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from hashpress.core.inputs import ImageInput
from hashpress.core.model import Arch, HashModel
from hashpress.hashnets.build import build
from hashpress.modelfile.reader import read_dense
from hashpress.targets import abi
from hashpress.targets.compile import compile_model
from hashpress.targets.runtime import Runtime
from nets_for_targets import settled

HERE = Path(__file__).parent
ARCH = Arch("resnet20", 12, ImageInput((3, 8, 8), (0.5, 0.4, 0.3), (0.2, 0.3, 0.25)), {"widths": [4, 4, 8]})


def test_the_header_is_the_golden_one():
    assert abi.header() == (HERE / "hashnet_abi.h").read_text(encoding="utf-8")


def test_the_arguments_are_the_ones_of_bundles_that_exist():
    """Libraries that were compiled before are called with these, in this order."""
    run = ["image", "outputs", "workspace", "parameters", "first", "last"]
    pack = ["step", "weight", "bias", "gamma", "beta", "mean", "variance", "multiplier", "parameters"]
    assert [argument.name for argument in abi.RUN] == run
    assert [argument.name for argument in abi.PACK] == pack
    assert [argument.is_buffer for argument in abi.RUN] == [True] * 4 + [False] * 2


def test_sizes_of_buffers_come_from_the_manifest():
    manifest = {"input": {"shape": [3, 5, 7]}, "bits": 12, "memory": {"activations": 640, "packed": 256, "weights": 1}}
    assert abi.buffer_bytes(manifest) == {"image": 420, "outputs": 48, "workspace": 640, "parameters": 256}


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    """The C program, compiled against the generated header."""
    folder = tmp_path_factory.mktemp("program")
    (folder / "hashnet_abi.h").write_text(abi.header(), encoding="utf-8")
    flags = ["-std=c11", "-D_DEFAULT_SOURCE", "-Wall", "-Wextra", "-Werror", "-rdynamic", f"-I{folder}"]
    command = ["gcc", *flags, "-o", str(folder / "call"), str(HERE / "call_network.c"), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "call"


def test_a_c_program_computes_what_the_python_runtime_does(program, tmp_path):
    bundle = compile_model(HashModel(settled(build(ARCH, seed=1)), ARCH), "host", tmp_path / "b")
    runtime = Runtime(bundle.path)
    inputs = runtime.normalise(np.random.default_rng(0).integers(0, 256, (1, *bundle.input_shape), dtype=np.uint8))
    sizes = {name: size // 4 for name, size in abi.buffer_bytes(bundle.manifest).items()}
    roles = [argument.name for argument in abi.PACK]
    state, words = read_dense(bundle.path / "model.safetensors"), []
    for number, step in enumerate(bundle.manifest["steps"]):
        for role, (name, _) in step["tensors"].items():
            file = tmp_path / f"{number}.{role}"
            state[name].astype(np.float32).tofile(file)
            words += [number, roles.index(role), file, state[name].size]
    inputs.tofile(tmp_path / "image")
    fixed = [bundle.path / "lib.so", len(runtime.steps), sizes["workspace"], sizes["parameters"]]
    command = [program, *fixed, tmp_path / "image", sizes["image"], sizes["outputs"], *words]
    done = subprocess.run([str(word) for word in command], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert np.array_equal(np.frombuffer(done.stdout, np.float32), runtime.outputs(inputs)[0])
