"""README's results: a public ResNet-20 becomes a 48-bit hash network, one small file and a bundle; two LeNets; latency.

    HASHPRESS_DATA=DIR python -m benchmarks.spine [STAGE ...]

DIR holds ``cifar10-jpeg.tar.xz`` and ``mnist/``; the checkpoint is read from ``DIR/../checkpoints``. Models are kept in
``runs/spine``, so an interrupted run goes on, and a stage by itself reuses what the others left. ``results/spine.json``
keeps the figures of stages that did not run here and says of each where and at which commit it was measured; README's table
is made from it by ``benchmarks.readme``. ResNet-20 trains without 5,000 validation images, which choose; the queries are
only measured on.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "2")

import numpy as np
import torch
from hashpress.compress.recipe.load import Recipe, compress, load_recipe
from hashpress.core.data import load_data
from hashpress.core.files import atomic_write
from hashpress.core.model import HashModel
from hashpress.hashnets.build import default_arch, untrained
from hashpress.hashnets.retrieval.bit_flips import bit_flips
from hashpress.hashnets.retrieval.codes import outputs, pack
from hashpress.hashnets.retrieval.evaluate import error_rate, quality
from hashpress.hashnets.training.schedule import Schedule
from hashpress.hashnets.training.train import train
from hashpress.modelfile.file import load
from hashpress.profiling import machine
from hashpress.targets.compile import compile_model

from .latency import network, side_by_side
from .lib import spine_models
from .lib.results_io import FOLDER, UNKNOWN, Output, Target, output_of, write_result
from .lib.spine_models import SEED, WORK, cifar10, data_dir, held_out, kept, resnet20

MARGIN = 1e-4  # bits whose outputs are nearer to zero may differ between two correct float programs

RECIPE = "resnet-20"
EPOCHS = 2  # of its training inside ``share``: the shipped 7, and 3 after it, take three hours of one core
TRIED = (
    "3 mixtures, on 5,000 validation images; learning rates, augmentation and the recipe's settings are those of an earlier "
    "schedule, chosen on queries among an unknown number, cut in epochs to what one core trains in an hour"
)
LENETS = {
    "lenet300": (Schedule(epochs=20, lr=0.05), "lenet-300", 40.0),
    "lenet5": (Schedule(epochs=20, lr=0.03, augment="shift", precision="bfloat16"), "lenet-5", 39.0),
}


def fp32_bytes(model: HashModel) -> int:
    """Return the bytes of the trained parameters alone, four each: the stricter reading, without running statistics."""
    return 4 * sum(value.numel() for value in model.net.parameters())


def shorter() -> Recipe:
    """Return the shipped recipe for ResNets with EPOCHS, in float32 (bfloat16 needs a recent CPU), not fine-tuned again."""
    shipped = load_recipe(RECIPE)
    share, fold, _ = (dict(entry) for entry in shipped.entries)
    share["finetune"] = {**share["finetune"], "epochs": EPOCHS, "precision": "float32"}
    return replace(shipped, entries=(share, fold), name=f"{RECIPE}, {EPOCHS} epochs")


def small(name: str, model: HashModel, recipe: Recipe, split: Any) -> tuple[HashModel, Path]:
    """Return the model after a recipe, read back from its file, and the file."""
    path = WORK / f"{name}-small.safetensors"
    if not path.exists():
        compress(model, recipe, split, out=path, seed=SEED, resume=True)
    return load(path), path


def retrieval() -> dict[str, Any]:
    """Measure mAP of the uncompressed network and of the small file, symmetric and asymmetric."""
    split, model = cifar10(), resnet20()
    compressed, path = small("resnet20-48", model, shorter(), held_out())
    wanted, given = (outputs(net, split.queries.pixels) for net in (model, compressed))
    stored, small_stored = (pack(outputs(net, split.database.pixels)) for net in (model, compressed))
    before = quality(pack(wanted), stored, 48, split)
    after = quality(pack(given), small_stored, 48, split)
    against = quality(pack(given), stored, 48, split, asymmetric=True)
    flips = bit_flips(given, wanted)
    size = path.stat().st_size
    return {
        "map": before.map,
        "small_map": after.map,
        "small_map_asymmetric": against.map,
        "map_drop": before.map - after.map,
        "map_drop_asymmetric": before.map - against.map,
        "bit_flips": flips.rate,
        "fp32_bytes": fp32_bytes(model),
        "file_bytes": size,
        "ratio": fp32_bytes(model) / size,
        **spine_models.chosen(),
        "quality": {"uncompressed": before.to_json(), "small": after.to_json(), "asymmetric": against.to_json()},
    }


def fresh_process() -> dict[str, Any]:
    """Compare the codes of the small file's bundle, run where torch is never imported, with torch's, query by query."""
    split = cifar10()
    model, _ = small("resnet20-48", resnet20(), shorter(), held_out())
    began = time.perf_counter()
    compile_model(model, "host", WORK / "resnet20-48.bundle")
    seconds = time.perf_counter() - began
    inputs, given = WORK / "queries.npy", WORK / "outputs.npy"
    with atomic_write(inputs) as handle:
        np.save(handle, model.arch.input.normalise(split.queries.pixels).numpy())
    command = [
        sys.executable,
        "-m",
        "benchmarks.fresh_process",
        str(WORK / "resnet20-48.bundle"),
        str(inputs),
        str(given),
    ]
    subprocess.run(command, check=True)
    wanted, found = outputs(model, split.queries.pixels), np.load(given)
    differ = (wanted >= 0) != (found >= 0)
    near = np.abs(wanted) < MARGIN
    return {
        "queries": len(found),
        "bits": int(found.size),
        "differing_bits": int(differ.sum()),
        "differing_share": float(differ.mean()),
        "differing_beyond_margin": int((differ & ~near).sum()),
        "share_of_bits_within_margin": float(near.mean()),
        "largest_difference_of_outputs": float(np.abs(wanted - found).max()),
        "compile_seconds": seconds,
    }


def latency() -> dict[str, Any]:
    """Time the uncompressed networks through bundles against ONNX Runtime, one thread, side by side."""
    torch.set_num_threads(1)
    nets = {"resnet20": resnet20(), **{name: network(name) for name in ("smallconv", "alexnet_features")}}
    return {name: side_by_side(model, name, WORK) for name, model in nets.items()}


def lenet(name: str) -> dict[str, Any]:
    """Measure Deep Compression's route on one LeNet: error before and after, bytes of the whole file."""
    schedule, recipe, _ = LENETS[name]
    split = load_data(f"mnist:{data_dir()}/mnist", protocol="B")
    arch = default_arch(name, 10)

    def trained(checkpoint: Path) -> HashModel:
        empty = untrained(arch, seed=SEED)
        return train(empty, split, "onehot", schedule, seed=SEED, checkpoint=checkpoint)

    model = kept(f"{name}-10", trained)
    compressed, path = small(f"{name}-10", model, load_recipe(recipe), split)
    before, after, size = error_rate(model, split.queries), error_rate(compressed, split.queries), path.stat().st_size
    return {
        "error": before,
        "small_error": after,
        "error_increase_points": 100 * (after - before),
        "fp32_bytes": fp32_bytes(model),
        "file_bytes": size,
        "ratio": fp32_bytes(model) / size,
    }


STAGES: dict[str, Callable[[], dict[str, Any]]] = {
    "retrieval": retrieval,
    "fresh_process": fresh_process,
    "latency": latency,
    "lenet300": lambda: lenet("lenet300"),
    "lenet5": lambda: lenet("lenet5"),
}
RESNET20_STAGES = ("retrieval", "fresh_process")


def targets(values: dict[str, Any]) -> list[Target]:
    """Return the figures of the stages that are there; those of latency stand in ``benchmarks.latency``."""
    lines = []
    if found := values.get("retrieval"):
        lines += [
            Target("resnet20 mAP, uncompressed, protocol B", found["map"], ">=", 0.91),
            Target("resnet20 fp32 bytes over file bytes", found["ratio"], ">=", 16),
            Target("resnet20 mAP drop, symmetric", found["map_drop"], "<=", 0.01),
        ]
    if codes := values.get("fresh_process"):
        differing = codes["differing_beyond_margin"]
        lines.append(Target("bundle codes differing beyond margin 1e-4, bits", differing, "<=", 0))
    for name, (_, _, ratio) in LENETS.items():
        if found := values.get(name):
            lines.append(Target(f"{name} fp32 bytes over file bytes", found["ratio"], ">=", ratio))
            lines.append(Target(f"{name} error increase, points", found["error_increase_points"], "<=", 0.1))
    return lines


def settings() -> dict[str, Any]:
    """Return how the networks are trained and compressed."""
    lenets = {name: {"schedule": asdict(schedule), "recipe": recipe} for name, (schedule, recipe, _) in LENETS.items()}
    schedules = [asdict(schedule) for schedule in spine_models.ALONE]
    resnet = {"schedules": schedules, "mixtures": spine_models.MIXTURES, "recipe": shorter().to_toml()}
    return {"resnet20": resnet, **lenets}


def main(chosen: list[str], output: Output) -> None:
    """Run the stages and write the result file, which keeps what was published of the others."""
    commit = output.commit()
    WORK.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    path = FOLDER / "spine.json"
    values = json.loads(path.read_text(encoding="utf-8"))["values"] if path.exists() else {}
    measured = values.pop("measured", {})
    for name in chosen or STAGES:
        print(f"{name} ...", flush=True)
        values[name] = value = STAGES[name]()
        print(json.dumps({key: item for key, item in value.items() if key != "quality"}, indent=1), flush=True)
        tried = TRIED if name in RESNET20_STAGES else "nothing is chosen" if name == "latency" else UNKNOWN
        measured[name] = {"commit": commit, "machine": machine.describe(), "settings_tried": tried}
    written = write_result(
        "spine", {**values, "measured": measured}, targets(values),
        kind="measured", settings=settings(), settings_tried=TRIED, seed=SEED, output=output,
    )  # fmt: skip
    print(written)


if __name__ == "__main__":
    main(*output_of(sys.argv[1:]))
