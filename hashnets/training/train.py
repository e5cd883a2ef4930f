"""The one training loop, for new networks and for compressed ones that need to recover.

Seeds decide everything: the order of items, augmentation and dropout are drawn anew for every epoch from (seed, epoch),
so a run that was interrupted ends in the same bytes as one that was not (same machine, same number of threads).
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ...core.data.images import Images, Split
from ...core.errors import DataError, InputError, lookup
from ...core.inputs import Input
from ...core.model import HashModel, Json, Step
from ...core.progress import track
from .. import heads
from ..systems import SYSTEMS
from ..systems.base import Batch, Objective
from .augment import AUGMENTATIONS
from .checkpoint import fingerprint, load_state, save_state
from .schedule import Schedule

START = 512  # images that set the scale of a new head

Log = list[dict[str, Json]]


def train(
    model: HashModel,
    split: Split,
    system: str,
    schedule: Schedule,
    *,
    seed: int = 0,
    checkpoint: str | os.PathLike[str] | None = None,
    settings: Mapping[str, float] | None = None,
) -> HashModel:
    """Return ``model`` trained on ``split.train`` as a published system; the one given stays as it is.

    A head that was never trained is first spread over its outputs' range (:func:`heads.spread`).

    ``settings`` are the system's own, such as ``{"eta": 0.1}``. With ``checkpoint`` the state is kept there after every
    epoch, and a run that finds the file goes on from it.

    Raises:
        InputError: an unknown system or setting, data the network cannot take, a loss that is not finite.
        CheckpointError: ``checkpoint`` holds another run.
    """
    maker = lookup(SYSTEMS, system, "system")
    net, settings, seed = model.copied_net(), dict(settings or {}), int(seed)
    try:
        objective = maker(model.arch, len(split.classes), len(split.train), seed, **settings)
    except TypeError as fault:
        raise InputError(f"system {system!r} does not take these settings: {fault}") from fault
    head = getattr(net, "head", None)
    if isinstance(head, nn.Linear) and not any(step.name == "train" for step in model.history):
        some = split.train.pixels[:: max(1, len(split.train) // START)][:START]
        heads.spread(net, head, model.arch.input.normalise(some))
    path = None if checkpoint is None else Path(checkpoint)
    log = fit(net, objective, split.train, model.arch.input, schedule, seed=seed, checkpoint=path)
    about = {"system": system, **settings, **schedule.to_json()}
    data = {"data": split.name, "protocol": split.protocol, "digest": split.digest}
    figures = {"loss": log[-1]["loss"]} if log else {}
    return model.edited(net, (), Step("train", about | data, seed, after=figures))


def fit(
    net: nn.Module,
    objective: Objective,
    images: Images,
    input: Input,  # noqa: A002  # the field's name in Arch
    schedule: Schedule,
    *,
    seed: int = 0,
    checkpoint: Path | None = None,
    after_step: Callable[[], None] | None = None,
) -> Log:
    """Train ``net`` in place and return one entry per epoch: epoch, loss, rate and images a second.

    ``after_step`` runs after every step of the optimizer, for masks and other constraints on the weights.
    The network ends in evaluation mode.

    Raises:
        InputError: data the network cannot take, or a loss that is not finite.
        CheckpointError: ``checkpoint`` holds another run.
    """
    if len(images) < 2:
        raise DataError(f"training needs at least two images, got {len(images)}")
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
    run = _Run(net, objective, images, input, schedule, seed, _optimizer(net, objective, schedule), after_step)
    log: Log = []
    name = ""
    if checkpoint is not None:
        name = run.fingerprint()
        if checkpoint.exists():
            log = load_state(checkpoint, net, objective, run.optimizer, name)
    while len(log) < schedule.epochs:
        with torch.random.fork_rng(devices=[]):
            log.append(run.epoch(len(log), log[-1]["loss"] if log else math.nan))
        objective.end_epoch()
        if checkpoint is not None:
            save_state(checkpoint, net, objective, run.optimizer, name, log)
    net.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    net.eval()
    return log


@dataclass
class _Run:
    net: nn.Module
    objective: Objective
    images: Images
    input: Input
    schedule: Schedule
    seed: int
    optimizer: torch.optim.Optimizer
    after_step: Callable[[], None] | None

    def fingerprint(self) -> str:
        """Return a hash of everything that decides how this run ends, before it starts."""
        system = f"{type(self.objective).__module__}.{type(self.objective).__qualname__}"
        settings = [self.schedule.to_json(), self.seed, self.input.to_json(), system, dict(self.objective.settings)]
        return fingerprint([*settings, self.images.digest], self.net.state_dict(), self.objective.state_dict())

    def epoch(self, epoch: int, loss: float) -> dict[str, Json]:
        """See every image once; the global generator (dropout) is seeded here, so the caller forks it."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        torch.manual_seed(self.seed * 1_000_003 + epoch)
        per_epoch = math.ceil(len(self.images) / self.schedule.batch)
        steps = self.schedule.epochs * per_epoch
        self.net.train()
        total, begin = 0.0, time.perf_counter()
        running = "" if math.isnan(loss) else f", loss {loss:.4f}"
        what = f"epoch {epoch + 1}/{self.schedule.epochs}{running}"
        for place, batch in enumerate(track(self.batches(generator, per_epoch), what, per_epoch)):
            self.set_rate(self.schedule.rate(epoch * per_epoch + place, steps))
            value = self.step(batch)
            if not math.isfinite(value):
                raise InputError(
                    f"training diverged: the loss is {value} at step {place + 1} of epoch {epoch + 1}; "
                    f"take a lower lr than {self.schedule.lr} or bound the gradient with clip"
                )
            total += value * len(batch.index)
        speed = len(self.images) / (time.perf_counter() - begin)
        return {"epoch": epoch + 1, "loss": total / len(self.images), "images_per_s": round(speed, 1)}

    def batches(self, generator: torch.Generator, count: int) -> Iterator[Batch]:
        """Yield all images in random order, in ``count`` batches whose sizes differ by at most one."""
        augment = AUGMENTATIONS[self.schedule.augment]
        for index in torch.randperm(len(self.images), generator=generator).tensor_split(count):
            chosen = self.images.take(index.numpy())
            pixels = augment(torch.from_numpy(np.ascontiguousarray(chosen.pixels)), generator)
            inputs = self.input.normalise(pixels.numpy()).contiguous(memory_format=torch.channels_last)
            yield Batch(index, inputs, torch.from_numpy(chosen.labels))

    def step(self, batch: Batch) -> float:
        """Take one step of the optimizer and return the loss before it."""
        half = self.schedule.precision == "bfloat16"
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            given = self.net(batch.inputs)
        loss = self.objective(given.float(), batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.schedule.clip:
            nn.utils.clip_grad_norm_(self.net.parameters(), self.schedule.clip)
        self.optimizer.step()
        if self.after_step is not None:
            self.after_step()
        return loss.item()

    def set_rate(self, factor: float) -> None:
        """Set every group's rate to its own base times ``factor``."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["base"] * factor


def _optimizer(net: nn.Module, objective: Objective, schedule: Schedule) -> torch.optim.Optimizer:
    """Return the optimizer over four groups: the encoder's and the head's, matrices (which decay) and vectors."""
    head = [(value, schedule.head_lr) for value in objective.parameters()]
    own = [(value, schedule.head_lr if name.startswith("head.") else 1.0) for name, value in net.named_parameters()]
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for value, factor in own + head:
        if value.requires_grad:
            decay = schedule.weight_decay if value.ndim > 1 else 0.0
            groups.setdefault((factor, decay), []).append(value)
    chosen = [
        {"params": values, "lr": schedule.lr * factor, "base": schedule.lr * factor, "weight_decay": decay}
        for (factor, decay), values in groups.items()
    ]
    if not chosen:
        raise InputError("nothing to train: every parameter of the network is frozen")
    if schedule.optimizer == "adam":
        return torch.optim.AdamW(chosen, betas=(schedule.momentum, 0.999), fused=True)  # five times faster on a CPU
    return torch.optim.SGD(chosen, momentum=schedule.momentum, nesterov=schedule.momentum > 0)
