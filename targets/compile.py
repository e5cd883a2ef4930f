"""HashModel to bundle: the whole of compilation in one function."""

from __future__ import annotations

import json
import math
import os
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..core.errors import TargetError
from ..core.files import sha256_file
from ..core.inputs import ImageInput
from ..core.model import HashModel
from ..modelfile.file import save
from ..modelfile.layers.densify import densified, own_encodings_only
from .abi import PARAMETERS, itemsize
from .bundle import FORMAT, GOLDEN, LIBRARY, MANIFEST, MODEL, PARTS, Bundle, new_bundle, open_bundle
from .check import Lowered, check_codes
from .codegen.codegen import generate_library
from .codegen.link import includes, linker_version
from .codegen.plan import Plan, plan
from .codegen.program import generate
from .graph.export import export
from .graph.fuse import fuse
from .graph.import_relax import import_relax
from .native.build import build_runtime
from .native.compiler import runtime_compiler
from .table import HostTarget, Target, resolve

GOLDEN_IMAGES = 4
TOOLS = ("hashpress", "torch", "apache-tvm", "apache-tvm-ffi", "numpy", "constriction", "safetensors")


def compile_model(
    model: HashModel,
    target: str | Target | HostTarget,
    out: str | os.PathLike[str],
    *,
    trust_code: bool = False,
    force: bool = False,
    source: str | os.PathLike[str] | None = None,
) -> Bundle:
    """Compile ``model`` for a target and write the bundle ``out``, whole or not at all.

    Args:
        model: a network, compressed or not.
        target: a name of ``TARGETS``, ``module:NAME`` of a target outside of hashpress, or the target itself.
        out: the bundle's directory; a bundle that is there is replaced.
        trust_code: allow ``module:NAME``, whose module is imported and run.
        force: replace a file at ``out`` that is no bundle; folders that are none are never replaced.
        source: the file that ``model`` was loaded from, whose hash the manifest then holds.

    Raises:
        TargetError: an unknown target, a layer without a kernel, no linker, a place that cannot be written, or a library
            that gives other codes than torch; what stood at ``out`` is left as it was.
    """
    chosen = resolve(target, trust_code=trust_code)
    check_images(model)
    plain = densified(model)
    lowered = lower(plain, chosen)
    with new_bundle(out, force=force) as folder:
        module = generate(lowered.plan, chosen)
        with tempfile.TemporaryDirectory(prefix="hashpress-") as objects:
            generate_library(module, chosen, folder / LIBRARY, Path(objects))
            manifest = _manifest(model, chosen, lowered.plan)
            manifest["native"] = _native(manifest, chosen, Path(objects), folder)
        save(own_encodings_only(model), folder / MODEL)
        truth = golden(plain)
        np.savez_compressed(folder / GOLDEN, **truth)  # type: ignore[arg-type]
        files = {
            name: {"bytes": (folder / name).stat().st_size, "sha256": sha256_file(folder / name)}
            for name in (*PARTS, *manifest["native"]["files"])
        }
        manifest |= {"files": files}
        if source is not None:
            manifest["source"] = {"name": Path(source).name, "sha256": sha256_file(Path(source))}
        _write(folder / MANIFEST, manifest)
        _write(folder / MANIFEST, manifest | {"checked": check_codes(folder, lowered, truth)})
    return open_bundle(Path(out))


def _native(manifest: dict[str, Any], target: Target, objects: Path, folder: Path) -> dict[str, Any]:
    """Add the native runtime to a bundle; without a C compiler the bundle has none and says so."""
    compiler, missing = runtime_compiler(target.machine, target.linker)
    if compiler is None:
        return {"files": [], "compiler": missing}
    parts = []
    for path in sorted(objects.iterdir()):
        parts.append(path.with_suffix(".o"))
        if path.suffix == ".c":
            compiler.run("-fPIC", *target.flags, *includes(), "-c", str(path), "-o", str(parts[-1]))
    return {"files": list(build_runtime(manifest, parts, folder, compiler)), "compiler": compiler.version}


def check_images(model: HashModel) -> None:
    """Raise TargetError unless the network takes images: bundles and ONNX files have no other inputs yet."""
    if not isinstance(model.arch.input, ImageInput):
        raise TargetError(f"{model.arch.encoder} takes {model.arch.input.kind} inputs; only networks of images compile")


def _write(path: Path, manifest: dict[str, Any]) -> None:
    path.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def lower(model: HashModel, target: Target) -> Lowered:
    """Return the operators and the steps that compute a model of plain layers.

    Raises:
        TargetError: a layer without a kernel, or outputs that are not one number a bit.
    """
    exported = export(model.net, model.arch.input.shape)
    graph = fuse(import_relax(exported))
    made = plan(graph, target)
    if made.output.shape != (model.arch.bits, 1, 1):
        raise TargetError(
            f"the network gives outputs of shape {made.output.shape}, a code of {model.arch.bits} bits is asked"
        )
    return Lowered(exported, graph, made)


def golden(model: HashModel, seed: int = 0) -> dict[str, np.ndarray]:
    """Return uint8 ``pixels`` and torch's float32 ``outputs`` for them, of the network as it stands."""
    shape = (GOLDEN_IMAGES, *model.arch.input.shape)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    with torch.inference_mode():
        values = model.net.eval()(model.arch.input.tensor(pixels))
    return {"pixels": pixels, "outputs": values.float().numpy()}


def _manifest(model: HashModel, target: Target, made: Plan) -> dict[str, Any]:
    steps = [
        {
            "name": step.name,
            "kind": step.kernel.op,
            "macs": step.kernel.macs,
            "tensors": {role: [tensor.name, list(tensor.shape)] for role, tensor in step.parameters.items()},
        }
        for step in made.steps
    ]
    parameters = {tensor.name: tensor for step in made.steps for tensor in step.parameters.values()}
    weights = sum(math.prod(tensor.shape) * itemsize(tensor.dtype) for tensor in parameters.values())
    return {
        "format": FORMAT,
        "target": {
            "name": target.name,
            "machine": target.machine,
            "tvm": dict(target.tvm),
            "lanes": target.lanes,
            "needs": list(target.needs),
        },
        "encoder": model.arch.encoder,
        "bits": model.arch.bits,
        "input": model.arch.input.to_json(),
        "memory": {
            "activations": made.workspace_bytes,
            "weights": weights,
            "packed": made.packed * itemsize(PARAMETERS.dtype),
        },
        "steps": steps,
        "tools": _tools(target),
    }


def _tools(target: Target) -> dict[str, str]:
    found = {"linker": linker_version(target)}
    for name in TOOLS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
