"""The networks that most benchmarks begin with: a ResNet-20 and a ResNet-56 with 48 bits on CIFAR-10, kept in ``runs/spine``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hashpress.compress.passes import Finetune
from hashpress.core.data import load_data
from hashpress.core.model import HashModel
from hashpress.hashnets.importers.recognise import import_checkpoint
from hashpress.hashnets.training.schedule import Schedule
from hashpress.hashnets.training.train import train
from hashpress.hashnets.training.weight_average import averaged
from hashpress.modelfile.file import load, save

from .results_io import ROOT

WORK = Path(os.environ.get("SPINE") or ROOT / "runs" / "spine")
SEED = 0
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


def data_dir() -> Path:
    """Return the folder of the real data sets."""
    folder = os.environ.get("HASHPRESS_DATA")
    if not folder:
        sys.exit("this benchmark needs HASHPRESS_DATA: a folder with cifar10-jpeg.tar.xz and mnist/")
    return Path(folder)


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
