"""The one training loop, for new networks and for compressed ones that need to recover.

Seeds decide everything: the order of items, augmentation and dropout are drawn anew for every epoch from (seed, epoch),
so a run that was interrupted ends in the same bytes as one that was not (same machine, same number of threads).
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...core.data.images import Images
from ...core.data.items import Items
from ...core.data.split import Split
from ...core.device import open_device
from ...core.errors import DataError, InputError
from ...core.inputs import Input
from ...core.model import HashModel, Json, Step
from ...core.progress import track
from ...core.usable_weights import unusable
from .. import heads
from ..repeatable import check_repeatable
from ..systems import find_system
from ..systems.base import Batch, Objective
from .augment import AUGMENTATIONS
from .checkpoint import fingerprint, load_state, save_state
from .distributed import Ranks
from .features import head_and_features, solve_head
from .schedule import Schedule

EXPLODED = 1000.0  # times the first loss, or 1: no training recovers from there
START = 512  # items that set the scale of a new head

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
    device: str = "cpu",
    trust_code: bool = False,
) -> HashModel:
    """Return ``model`` trained on ``split.train`` as a published system or, by ``module:Class``, one of your own.

    The model given stays as it is.

    A head that was never trained is first scaled so that its outputs have mean 0 and deviation 1 (:func:`heads.standardize`).

    ``settings`` are the system's own, such as ``{"eta": 0.1}``. With ``checkpoint`` the state is kept there after every
    epoch, and a run that finds the file goes on from it. ``device`` is ``cpu`` or ``cuda``; under ``torchrun`` the
    processes share every batch, and all of them return the same model.

    Raises:
        InputError: an unknown system, setting or device, data the network cannot take, a loss that is not finite.
        CheckpointError: ``checkpoint`` holds another run.
    """
    _check_count(split.train)
    check_repeatable(model, split)
    maker = find_system(system, trust_code=trust_code)
    net, settings, seed = model.copy_net(), dict(settings or {}), int(seed)
    try:
        objective = maker(model.arch, len(split.classes), len(split.train), seed, **settings)
    except TypeError as fault:
        raise InputError(f"system {system!r} does not take these settings: {fault}") from fault
    missing = [
        name
        for name in ("settings", "parameters", "state_dict", "prepare", "end_epoch")
        if not hasattr(objective, name)
    ]
    if missing:
        raise InputError(f"system {system!r} has no {', '.join(missing)}; make it a subclass of hashpress.System")
    head = getattr(net, "head", None)
    if isinstance(head, nn.Linear) and not any(step.name == "train" for step in model.history):
        some = split.train.values[:: max(1, len(split.train) // START)][:START]
        heads.standardize(net, head, model.arch.input.tensor(some))
    path = None if checkpoint is None else Path(checkpoint)
    part: tuple[nn.Module, Items, Input] = net, split.train, model.arch.input
    if getattr(objective, "on_features", False):
        part = dense, features, _ = head_and_features(net, model.arch, split.train)
        if hasattr(objective, "solve"):
            solve_head(dense, objective, features)
            schedule = replace(schedule, epochs=0)
    log = fit(part[0], objective, *part[1:], schedule, seed=seed, checkpoint=path, device=device)
    figures = {"loss": log[-1]["loss"]} if log else {}
    step = training_step(split, system, schedule, seed=seed, settings=settings, device=device)
    return model.edited(net, (), replace(step, after=figures))


def training_step(
    split: Split,
    system: str,
    schedule: Schedule,
    *,
    seed: int = 0,
    settings: Mapping[str, float] | None = None,
    device: str = "cpu",
) -> Step:
    """Return the line of history of a training, without its figures: what :func:`train` was asked for."""
    about = {"system": system, **(settings or {}), **schedule.to_json()}
    data = {"data": split.name, "protocol": split.protocol, "digest": split.digest}
    if split.held_out is not None:
        data["queries"] = split.queries.digest  # the same without the validation part
    where = {} if device == "cpu" else {"device": device}
    return Step("train", about | data | where, seed)


def _check_count(items: Items) -> None:
    if len(items) < 2:
        raise DataError(f"training needs at least two {items.noun}, got {len(items)}")


def fit(
    net: nn.Module,
    objective: Objective,
    items: Items,
    input: Input,  # noqa: A002  # the field's name in Arch
    schedule: Schedule,
    *,
    seed: int = 0,
    checkpoint: Path | None = None,
    after_step: Callable[[], None] | None = None,
    device: str = "cpu",
) -> Log:
    """Train ``net`` in place and return one entry per epoch: epoch, loss, rate and items a second.

    ``after_step`` runs after every step of the optimizer, for masks and other constraints on the weights.
    The network ends in evaluation mode, on the CPU.

    Raises:
        InputError: data the network cannot take, or a loss that is not finite.
        CheckpointError: ``checkpoint`` holds another run.
    """
    _check_count(items)
    if schedule.augment != "none" and not isinstance(items, Images):
        raise InputError(f"augmentation {schedule.augment!r} is for images; {items.noun} train without")
    place = open_device(device)
    ranks = Ranks.join(place)
    if len(items) // math.ceil(len(items) / schedule.batch) < ranks.world:
        raise InputError(f"{ranks.world} processes cannot share batches of {schedule.batch} of {len(items)} items")
    net.to(place, memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
    objective.to(place)
    objective.prepare(net, items)
    optimizer = _optimizer(net, objective, schedule)
    run = _Run(net, objective, items, input, schedule, seed, optimizer, after_step, place, ranks, net, checkpoint)
    log: Log = []
    name = ""
    if checkpoint is not None:
        name = run.fingerprint()
        ranks.wait()
        if checkpoint.exists():
            log = load_state(checkpoint, net, objective, run.optimizer, name)
    run.wrapped = ranks.wrap(net)
    while len(log) < schedule.epochs:
        with torch.random.fork_rng(devices=[place] if place.type == "cuda" else []):
            log.append(run.epoch(len(log), log[-1]["loss"] if log else math.nan))
        objective.end_epoch()
        ranks.share(net)
        if checkpoint is not None and ranks.rank == 0:
            save_state(checkpoint, net, objective, run.optimizer, name, log)
    ranks.wait()
    net.to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    net.eval()
    return log


@dataclass
class _Run:
    net: nn.Module
    objective: Objective
    items: Items
    input: Input
    schedule: Schedule
    seed: int
    optimizer: torch.optim.Optimizer
    after_step: Callable[[], None] | None
    device: torch.device
    ranks: Ranks
    wrapped: nn.Module  # the network, or what averages its gradients over processes
    checkpoint: Path | None = None
    first_loss: float = math.inf  # before the first step; not known to a run that goes on

    def fingerprint(self) -> str:
        """Return a hash of everything that decides how this run ends, before it starts."""
        system = f"{type(self.objective).__module__}.{type(self.objective).__qualname__}"
        settings = [self.schedule.to_json(), self.seed, self.input.to_json(), system, dict(self.objective.settings)]
        return fingerprint([*settings, self.items.digest], self.net.state_dict(), self.objective.state_dict())

    def epoch(self, epoch: int, loss: float) -> dict[str, Json]:
        """See every item once; the global generator (dropout) is seeded here, so the caller forks it."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        torch.manual_seed(self.seed * 1_000_003 + epoch)
        per_epoch = self.batches_per_epoch
        steps = self.schedule.epochs * per_epoch
        self.net.train()
        total, begin = 0.0, time.perf_counter()
        running = "" if math.isnan(loss) else f", loss {loss:.4f}"
        what = f"epoch {epoch + 1}/{self.schedule.epochs}{running}"
        for place, batch in enumerate(track(self.batches(generator, per_epoch), what, per_epoch)):
            self.set_rate(self.schedule.rate(epoch * per_epoch + place, steps))
            value = self.step(batch)
            where = f"at step {place + 1} of epoch {epoch + 1}"
            self.check_finite(value, where, weights=place + 1 == per_epoch)
            total += value * len(batch.index)
            if epoch == place == 0:
                self.first_loss = value
        if total / len(self.items) > EXPLODED * max(self.first_loss, 1.0):
            self.diverged(
                f"the loss rose from {self.first_loss:.3g} to {total / len(self.items):.3g} in epoch {epoch + 1}"
            )
        speed = len(self.items) / (time.perf_counter() - begin)
        return {"epoch": epoch + 1, "loss": total / len(self.items), "images_per_s": round(speed, 1)}

    @property
    def batches_per_epoch(self) -> int:
        """Batches of an epoch; a last batch of one joins the others where a batch norm could not train on it."""
        count = math.ceil(len(self.items) / self.schedule.batch)
        alone = len(self.items) // count == 1 and self.schedule.batch > 1
        return count - 1 if alone and any(isinstance(layer, _BatchNorm) for layer in self.net.modules()) else count

    def check_finite(self, loss: float, where: str, *, weights: bool) -> None:
        """Check the loss and, where the ``weights`` are to be kept, every value of the network.

        Raises:
            InputError: the training has diverged.
        """
        found = "" if math.isfinite(loss) else f"the loss is {loss}"
        if weights and not found:
            found = unusable(self.net)
        if found:
            self.diverged(f"{found} {where}")

    def diverged(self, how: str) -> NoReturn:
        """Raise InputError with what to try; a state that has diverged is not kept for a run to go on from."""
        if self.checkpoint is not None and self.ranks.rank == 0:
            self.checkpoint.unlink(missing_ok=True)
        raise InputError(
            f"training diverged: {how}; nothing of it is kept; try a tenth of lr {self.schedule.lr:g}, or bound the gradient "
            f"with {'a smaller' if self.schedule.clip else 'a'} clip"
        )

    def batches(self, generator: torch.Generator, count: int) -> Iterator[Batch]:
        """Yield all items in random order, on the device, in ``count`` batches whose sizes differ by at most one."""
        augment = AUGMENTATIONS[self.schedule.augment]
        for index in torch.randperm(len(self.items), generator=generator).tensor_split(count):
            chosen = self.items.take(index.numpy())
            values = chosen.values
            if self.schedule.augment != "none":
                values = augment(torch.from_numpy(np.ascontiguousarray(values)), generator).numpy()
            inputs = self.input.tensor(values)
            if inputs.ndim == 4:
                inputs = inputs.contiguous(memory_format=torch.channels_last)
            labels = torch.from_numpy(chosen.labels)
            labels = labels.float() if labels.dtype == torch.bool else labels
            yield Batch(index.to(self.device), inputs.to(self.device), labels.to(self.device))

    def step(self, batch: Batch) -> float:
        """Take one step of the optimizer and return the loss before it."""
        half = self.schedule.precision == "bfloat16"
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=half):
            try:
                outputs = self.wrapped(self.ranks.rows(batch.inputs))
            except ValueError as fault:  # of batch norms, whose message lacks what to do
                if "more than 1 value per channel" not in str(fault):
                    raise
                raise InputError(
                    "a batch norm cannot train on a batch of one item, whose variance is zero; take a larger batch than "
                    f"{self.schedule.batch}"
                ) from fault
        loss = self.objective(self.ranks.gather(outputs.float(), len(batch.inputs)), batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.ranks.average(list(self.objective.parameters()))
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
