"""The spine, measured: a stranger's ResNet-20 becomes a 48-bit hash network, one small file, a bundle; two LeNets beside it.

    HASHPRESS_DATA=DIR python benchmarks/spine.py [STAGE ...]

DIR holds ``cifar10-jpeg.tar.xz`` and ``mnist/``; the checkpoint is read from ``DIR/../checkpoints``. Models are kept in
``runs/spine``, so an interrupted run goes on, and a stage by itself reuses what the others left. The figures go to
``results/spine.json``; README's table is made from them by ``benchmarks/readme.py``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "2")

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))  # the other scripts of this folder

from hashpress.compress.passes import Finetune
from hashpress.compress.recipe.load import compress, load_recipe
from hashpress.core.data import load_data
from hashpress.core.files import atomic_write
from hashpress.core.model import HashModel
from hashpress.hashnets.build import default_arch, untrained
from hashpress.hashnets.importers.recognise import import_checkpoint
from hashpress.hashnets.retrieval.bit_flips import bit_flips
from hashpress.hashnets.retrieval.codes import outputs, pack
from hashpress.hashnets.retrieval.evaluate import error_rate, quality
from hashpress.hashnets.training.schedule import Schedule
from hashpress.hashnets.training.train import train
from hashpress.hashnets.training.weight_average import averaged
from hashpress.modelfile.file import load, save
from hashpress.targets.compile import compile_model
from latency import network, side_by_side
from results_io import Target, write_result

HERE = Path(__file__).parent
WORK = HERE.parent / "runs" / "spine"
SEED = 0
MARGIN = 1e-4  # bits whose outputs are nearer to zero may differ between two correct float programs

RECIPE = "resnet-20"
CHECKPOINTS = {"teacher": "resnet56-4bfd9763.th", "resnet20": "resnet20-12fca82f.th"}
TEACHER = Schedule(epochs=7, lr=0.02, head_lr=2.0, augment="flip-crop", precision="bfloat16")
ALONE = Schedule(epochs=40, lr=0.05, head_lr=2.0, augment="flip-crop", precision="bfloat16")
LEARN = partial(
    Finetune, optimizer="sgd", weight_decay=5e-4, clip=1.0, head_lr=2.0, precision="bfloat16", system="dlbhc",
    reference_precision="bfloat16",
)  # fmt: skip
TAUGHT = (  # shifted images teach what unseen ones need; then the database, seen as it is, gets pure codes
    LEARN(epochs=12, lr=0.03, augment="flip-crop", distill=5.0),
    LEARN(epochs=5, lr=0.01, augment="flip", distill=5.0),
    LEARN(epochs=5, lr=0.01, augment="none", distill=1.0),
    LEARN(epochs=4, lr=0.005, augment="none", distill=0.0),
)
MIXED = {2: 0.25, 4: 0.75}  # the second phase knows unseen images best, the fourth gives the purest codes
LENETS = {
    "lenet300": (Schedule(epochs=20, lr=0.05), "lenet-300", 40.0),
    "lenet5": (Schedule(epochs=20, lr=0.03, augment="shift", precision="bfloat16"), "lenet-5", 39.0),
}


def data_dir() -> Path:
    """Return the folder of the real data sets."""
    folder = os.environ.get("HASHPRESS_DATA")
    if not folder:
        sys.exit("benchmarks/spine.py needs HASHPRESS_DATA: a folder with cifar10-jpeg.tar.xz and mnist/")
    return Path(folder)


def fp32_bytes(model: HashModel) -> int:
    """Return the bytes of the trained parameters alone, four each: the stricter reading, without running statistics."""
    return 4 * sum(value.numel() for value in model.net.parameters())


def kept(name: str, make: Any) -> HashModel:
    """Return the model in ``runs/spine/NAME.safetensors``, made first when it is not there."""
    path = WORK / f"{name}.safetensors"
    if not path.exists():
        save(make(WORK / f"{name}.ckpt"), path)
    return load(path)


def imported(name: str, schedule: Schedule) -> HashModel:
    """Return a checkpoint with a 48-bit head, fine-tuned on the training images."""
    start = import_checkpoint(data_dir().parent / "checkpoints" / CHECKPOINTS[name], bits=48)
    return kept(
        f"{name}-48",
        lambda checkpoint: train(start, cifar10(), "dlbhc", schedule, seed=SEED, checkpoint=checkpoint),
    )


def teacher() -> HashModel:
    """Return the ResNet-56."""
    return imported("teacher", TEACHER)


def ends_of(
    keep: Callable[[str, Callable[[Path], HashModel]], HashModel],
    name: str,
    model: HashModel,
    phases: Sequence[Finetune],
    beside: Callable[[], HashModel] | None = None,
) -> list[HashModel]:
    """Return ``model`` after each of the phases, one learned after the other and kept by ``keep``.

    It learns beside the ResNet-56 or the network that ``beside`` makes.
    """
    ends: list[HashModel] = []
    for number, learn in enumerate(phases, start=1):

        def next_end(work: Path, model: HashModel = model, learn: Finetune = learn) -> HashModel:
            work.mkdir(exist_ok=True)
            return learn(model, cifar10(), seed=SEED, reference=(beside or teacher)(), work=work)

        model = keep(f"{name}-{number}", next_end)
        ends.append(model)
    return ends


def taught(name: str, model: HashModel, phases: Sequence[Finetune], mixed: Mapping[int, float] = MIXED) -> HashModel:
    """Return ``model`` after the phases beside the ResNet-56: the mean of some of their ends, in these shares."""
    ends = ends_of(kept, name, model, phases)
    parts = [ends[number - 1] for number in mixed]
    return kept(f"{name}-mixed", lambda _: averaged(parts, list(mixed.values()), cifar10().train, seed=SEED))


def resnet20() -> HashModel:
    """Return the imported checkpoint with a 48-bit head, fine-tuned by itself, then beside a ResNet-56."""
    return taught("resnet20-48", imported("resnet20", ALONE), TAUGHT)


def cifar10() -> Any:
    """Return CIFAR-10, protocol B."""
    return load_data(f"cifar10:{data_dir()}/cifar10-jpeg.tar.xz", protocol="B")


def small(name: str, model: HashModel, recipe: str, split: Any) -> tuple[HashModel, Path]:
    """Return the model after a shipped recipe, read back from its file, and the file."""
    path = WORK / f"{name}-small.safetensors"
    if not path.exists():
        compress(model, load_recipe(recipe), split, out=path, seed=SEED, resume=True)
    return load(path), path


def retrieval() -> dict[str, Any]:
    """Measure mAP of the uncompressed network and of the small file, symmetric and asymmetric."""
    split, model = cifar10(), resnet20()
    compressed, path = small("resnet20-48", model, RECIPE, split)
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
        "quality": {"uncompressed": before.to_json(), "small": after.to_json(), "asymmetric": against.to_json()},
    }


def fresh_process() -> dict[str, Any]:
    """Compare the codes of the small file's bundle, run where torch is never imported, with torch's, query by query."""
    split = cifar10()
    model, _ = small("resnet20-48", resnet20(), RECIPE, split)
    began = time.perf_counter()
    compile_model(model, "host", WORK / "resnet20-48.bundle")
    seconds = time.perf_counter() - began
    inputs, given = WORK / "queries.npy", WORK / "outputs.npy"
    with atomic_write(inputs) as handle:
        np.save(handle, model.arch.input.normalise(split.queries.pixels).numpy())
    command = [
        sys.executable,
        str(HERE / "fresh_process.py"),
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
    compressed, path = small(f"{name}-10", model, recipe, split)
    before, after, size = error_rate(model, split.queries), error_rate(compressed, split.queries), path.stat().st_size
    return {
        "error": before,
        "small_error": after,
        "error_increase_points": 100 * (after - before),
        "fp32_bytes": fp32_bytes(model),
        "file_bytes": size,
        "ratio": fp32_bytes(model) / size,
    }


STAGES = {
    "retrieval": retrieval,
    "fresh_process": fresh_process,
    "latency": latency,
    "lenet300": lambda: lenet("lenet300"),
    "lenet5": lambda: lenet("lenet5"),
}


def targets(values: dict[str, Any]) -> list[Target]:
    """Return every figure that was asked for."""
    found, codes = values["retrieval"], values["fresh_process"]
    asked = [
        Target("resnet20 mAP, uncompressed, protocol B", found["map"], ">=", 0.91),
        Target("resnet20 fp32 bytes over file bytes", found["ratio"], ">=", 16),
        Target("resnet20 mAP drop, symmetric", found["map_drop"], "<=", 0.01),
        Target("bundle codes differing beyond margin 1e-4, bits", codes["differing_beyond_margin"], "<=", 0),
    ]
    for name, entry in values["latency"].items():
        asked.append(Target(f"{name} latency over ONNX Runtime's, medians", entry["ratio"], "<=", 1.0))
        asked.append(Target(f"{name} compile, seconds", entry["compile_seconds"], "<=", 20))
    for name, (_, _, ratio) in LENETS.items():
        asked.append(Target(f"{name} fp32 bytes over file bytes", values[name]["ratio"], ">=", ratio))
        asked.append(Target(f"{name} error increase, points", values[name]["error_increase_points"], "<=", 0.1))
    return asked


def main(chosen: list[str]) -> None:
    """Run the stages and, once all have run, write the result file."""
    WORK.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    for name in chosen or STAGES:
        print(f"{name} ...", flush=True)
        value = STAGES[name]()
        print(json.dumps({key: item for key, item in value.items() if key != "quality"}, indent=1), flush=True)
        with atomic_write(WORK / f"{name}.json", "w") as handle:
            json.dump(value, handle)
    if all((WORK / f"{name}.json").exists() for name in STAGES):
        values = {name: json.loads((WORK / f"{name}.json").read_text(encoding="utf-8")) for name in STAGES}
        print(write_result("spine", values, targets(values), kind="measured", seed=SEED, threads=1))


if __name__ == "__main__":
    main(sys.argv[1:])
