"""The networks that most benchmarks begin with: a ResNet-20 and a ResNet-56 with 48 bits on CIFAR-10, kept in ``runs/spine``.

The public checkpoints were trained on all 50,000 training images, those held out here among them: mAP on the validation
images is higher than on the queries and says nothing about unseen images; it only ranks the mixtures.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from hashpress.compress.passes import Finetune
from hashpress.core.data import Split, load_data
from hashpress.core.data.source import stratified
from hashpress.core.files import atomic_write
from hashpress.core.model import HashModel
from hashpress.hashnets.importers.recognise import import_checkpoint
from hashpress.hashnets.retrieval.evaluate import evaluate
from hashpress.hashnets.training.schedule import Schedule
from hashpress.hashnets.training.train import train
from hashpress.hashnets.training.weight_average import averaged
from hashpress.modelfile.file import load, save

from .results_io import ROOT

WORK = Path(os.environ.get("SPINE") or ROOT / "runs" / "spine")
SEED = 0
CHECKPOINTS = {"teacher": "resnet56-4bfd9763.th", "resnet20": "resnet20-12fca82f.th"}
TEACHER = Schedule(epochs=7, lr=0.02, head_lr=2.0, augment="flip-crop", precision="bfloat16")
VALIDATION = 5_000  # training images, as many of each class, that only choose
DATABASE = 10_000  # of the other training images, which they search
ALONE = (  # one after the other: shifted images teach what unseen ones need; then the database, as it is, gets pure codes
    Schedule(epochs=2, lr=0.02, head_lr=2.0, augment="flip-crop"),
    Schedule(epochs=2, lr=0.005, head_lr=2.0),
)
MIXTURES: dict[str, dict[int, float]] = {  # means of the ends of ALONE by their number; the validation images choose one
    "second end": {2: 1.0}, "halves": {1: 0.5, 2: 0.5}, "quarter of the first": {1: 0.25, 2: 0.75},
}  # fmt: skip
LEARN = partial(
    Finetune, optimizer="sgd", weight_decay=5e-4, clip=1.0, head_lr=2.0, precision="bfloat16", system="dlbhc",
    reference_precision="bfloat16",
)  # fmt: skip


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


def teacher() -> HashModel:
    """Return the ResNet-56 with a 48-bit head, fine-tuned on the training images."""
    return kept(
        "teacher-48", lambda work: train(start("teacher"), cifar10(), "dlbhc", TEACHER, seed=SEED, checkpoint=work)
    )


def start(name: str) -> HashModel:
    """Return a checkpoint with an untrained head of 48 bits."""
    return import_checkpoint(data_dir().parent / "checkpoints" / CHECKPOINTS[name], bits=48)


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


def taught(name: str, model: HashModel, phases: Sequence[Finetune], mixed: Mapping[int, float]) -> HashModel:
    """Return ``model`` after the phases beside the ResNet-56: the mean of some of their ends, in these shares."""
    ends = ends_of(kept, name, model, phases)
    parts = [ends[number - 1] for number in mixed]
    return kept(f"{name}-mixed", lambda _: averaged(parts, list(mixed.values()), cifar10().train, seed=SEED))


def resnet20() -> HashModel:
    """Return the imported checkpoint with a 48-bit head, fine-tuned: the mixture of ends that validation chose."""
    return mixture(chosen()["mixture"])


def mixture(name: str) -> HashModel:
    """Return one of MIXTURES."""
    model, ends = start("resnet20"), []
    for number, schedule in enumerate(ALONE, start=1):

        def trained(work: Path, model: HashModel = model, schedule: Schedule = schedule) -> HashModel:
            return train(model, held_out(), "dlbhc", schedule, seed=SEED, checkpoint=work)

        model = kept(f"resnet20-48-alone-{number}", trained)
        ends.append(model)
    parts, shares = zip(*((ends[number - 1], share) for number, share in MIXTURES[name].items()), strict=True)
    if len(parts) == 1:
        return parts[0]
    where = f"resnet20-48-{name.replace(' ', '-')}"
    return kept(where, lambda _: averaged(parts, shares, held_out().train, seed=SEED))


def chosen() -> dict[str, Any]:
    """Return which of MIXTURES has the highest mAP on the validation images, and the mAP of each; kept in ``chosen.json``."""
    path = WORK / "chosen.json"
    if not path.exists():
        validation = held_out()
        searched = np.random.default_rng(SEED).permutation(len(validation.train))[:DATABASE]
        validation = replace(validation, database=validation.train.take(np.sort(searched)))
        found = {name: evaluate(mixture(name), validation).map for name in MIXTURES}
        best = max(found, key=lambda name: found[name])
        with atomic_write(path, "w") as handle:
            json.dump({"mixture": best, "validation_map": found}, handle, indent=1)
    return json.loads(path.read_text(encoding="utf-8"))


def cifar10() -> Split:
    """Return CIFAR-10, protocol B: all 50,000 training images are the database."""
    return load_data(f"cifar10:{data_dir()}/cifar10-jpeg.tar.xz", protocol="B")


def held_out() -> Split:
    """Return the training images of CIFAR-10 alone: VALIDATION of them ask, the others train and are the database."""
    whole = cifar10()
    chosen = stratified(whole.train.labels, VALIDATION, seed=0)
    rest = whole.train.take(np.setdiff1d(np.arange(len(whole.train)), chosen))
    return Split(whole.name, "validation", rest, whole.train.take(chosen), rest, whole.classes)
