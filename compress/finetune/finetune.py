"""Training after compression, with the loss of a hashing system, distillation from the uncompressed network, or both.

Pruned weights stay zero, and dropout before pruned layers is reduced. Of shared weights, only the codebook is trained,
by the sum of the gradients over each cluster (Han et al. 2016, arXiv:1510.00149, section 3.3). May stand anywhere after
``fold``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ...core.data.images import Split
from ...core.data.items import Items
from ...core.errors import HashpressError, RecipeError, lookup
from ...core.model import HashModel, Json
from ...core.settings import check_fields
from ...hashnets.retrieval.codes import outputs
from ...hashnets.systems import SYSTEMS, settings_of
from ...hashnets.systems.base import Batch, Objective
from ...hashnets.training.schedule import PRECISIONS, Schedule
from ...hashnets.training.train import fit
from ...modelfile.layers.base import round_weights
from ...modelfile.layers.codeword_grid import grid_steps, round_to_grid
from ..base import Context, Decision, Pass
from ..fold import Fold
from .dropout import dropout_rates, reduced_dropout
from .masks import mask_enforcer, masks_of
from .temporary_norms import norm_positions, with_temporary_norms

Match = Callable[[Tensor, Tensor], Tensor]
MOST_STEPS = 10**9
PROBES = 256  # images by which networks are compared
NOISE = 1e-5  # of the outputs' mean size: what another order of sums makes of float32


def _outputs(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.mse_loss(outputs, targets) / targets.square().mean().clamp_min(1e-12)


def _codes(outputs: Tensor, targets: Tensor) -> Tensor:
    scale = 4 / targets.abs().mean().clamp_min(1e-12)
    return functional.binary_cross_entropy_with_logits(outputs * scale, torch.sigmoid(targets * scale))


def _classes(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs, targets.softmax(1))


MATCHES: dict[str, Match] = {"outputs": _outputs, "codes": _codes, "classes": _classes}


@dataclass(frozen=True)
class Finetune(Pass):
    """Train the compressed network.

    ``system`` adds the loss of a published system with weight ``task``. ``distill`` weighs the imitation of the
    reference network: of its real-valued ``outputs`` (relative squared error), of its ``codes`` (cross entropy of soft
    signs), or of its ``classes`` (cross entropy of softmax). A network that already gives the outputs it would imitate
    is not trained. ``reference_precision`` is the precision of the reference network; a large one teaches as well in
    bfloat16. At least ``steps`` steps are taken, in more than ``epochs`` epochs if there are few images: layers that
    are trained from scratch need steps, not epochs. ``norms`` adds a batch norm after each plain convolution and each
    Fastfood layer with a bias during training, so that networks with folded norms or random layers learn faster.

    Raises:
        RecipeError: A setting is out of range.
    """

    name: ClassVar[str] = "finetune"
    phase: ClassVar[str] = "finetune"
    keeps_layer_names: ClassVar[bool] = True
    epochs: int = 5
    steps: int = 0
    lr: float = 0.001
    batch: int = 128
    optimizer: str = "adam"
    momentum: float = 0.9
    weight_decay: float = 0.0
    decay: str = "cosine"
    warmup: float = 0.05
    head_lr: float = 1.0
    augment: str = "none"
    clip: float = 0.0
    precision: str = "float32"
    system: str | None = None
    settings: Mapping[str, float] = field(default_factory=dict)
    task: float = 1.0
    distill: float = 1.0
    match: str = "outputs"
    reference_precision: str = "float32"
    norms: bool = False

    def __post_init__(self) -> None:
        check_fields("finetune", self, RecipeError)
        problems = []
        for check in (self.schedule, self._names):
            try:
                check()
            except HashpressError as fault:
                problems.append(f"finetune: {fault}")
        if self.settings and self.system is None:
            problems.append(f"finetune: settings {', '.join(self.settings)} are a system's own; name the system")
        problems += [
            f"finetune: {name} must be at least 0, got {getattr(self, name)}"
            for name in ("task", "distill", "steps")
            if not 0 <= getattr(self, name) < float("inf")
        ]
        if self.steps > MOST_STEPS:
            problems.append(f"finetune: steps must be at most {MOST_STEPS:,}, got {self.steps:,}")
        if not self.distill and not (self.system and self.task):
            problems.append("finetune: nothing to learn from; set distill above 0 or name a system")
        if problems:
            raise RecipeError(problems)

    def _names(self) -> None:
        lookup(MATCHES, self.match, "match")
        lookup(PRECISIONS, self.reference_precision, "precision")
        if self.system is not None:
            lookup(SYSTEMS, self.system, "system")
            own = dict.fromkeys(settings_of(self.system))
            for name in self.settings:
                lookup(own, name, f"setting of {self.system}")

    def schedule(self, images: int = 0) -> Schedule:
        """Return the training schedule, with enough epochs for ``steps`` steps on ``images`` images."""
        schedule = Schedule(**{item.name: getattr(self, item.name) for item in fields(Schedule)})
        if not images or not schedule.epochs:
            return schedule
        return replace(schedule, epochs=max(schedule.epochs, -(-self.steps // -(-images // schedule.batch))))

    @property
    def needs_images(self) -> bool:
        """Whether training images are needed: always."""
        return True

    def layer_keys(self) -> list[str]:
        """Return no keys: the table holds settings of a system."""
        return []

    def without_training(self) -> None:
        """Return None: the pass only trains."""

    def decide(self, model: HashModel, context: Context) -> Decision:
        """Return how many values are trained, how many stay zero, and how many steps are taken."""
        masks = masks_of(model)
        frozen = sum(int((~mask).sum()) for mask in masks.values())
        trained = sum(value.numel() for value in model.net.parameters()) - frozen
        images = 0 if context.split is None else len(context.split.train)
        epochs = self.schedule(images).epochs
        steps = None if context.split is None else epochs * -(-images // self.batch)
        about: dict[str, Json] = {"trained": trained, "held_at_zero": frozen, "epochs": epochs, "steps": steps}
        if dropout := dropout_rates(model.net, masks, model.arch.input):
            about["dropout"] = dropout
        return Decision(about | ({"normed": norm_positions(model.net, model.arch.input)} if self.norms else {}))

    def apply(self, model: HashModel, decision: Decision, context: Context) -> HashModel:  # noqa: ARG002  # as all passes
        """Return the trained model.

        Raises:
            InputError: The network cannot process the data.
        """
        reference = context.reference or model
        if not (self.system and self.task) and outputs_match(model, reference, context.training_split(self)):
            return model.edited(model.copy_net(), (), self.step(context.seed, nothing_to_learn=True))
        net = model.copy_net()
        steps = grid_steps(net)
        log = self.train(net, model, context)
        round_weights(net)
        round_to_grid(net, steps)
        loss = {"loss": round(log[-1]["loss"], 6)} if log else {}
        return model.edited(net, (), self.step(context.seed, **loss))

    def teacher(self, reference: HashModel) -> nn.Module:
        """Return the network to imitate."""
        if self.reference_precision == "bfloat16":
            return Bfloat16Net(Fold()(reference).copy_net())  # norms in bfloat16 take a third of the time
        return reference.copy_net()

    def train(
        self,
        net: nn.Module,
        model: HashModel,
        context: Context,
        *,
        end_epoch: Callable[[], None] | None = None,
    ) -> list[dict[str, Json]]:
        """Train ``net``, whose pruned weights are those of ``model``, in place; return one log entry per epoch.

        Raises:
            InputError: There is no data, or data that the network cannot process.
        """
        split, seed = context.training_split(self), context.seed
        task = None
        if self.system is not None and self.task:
            task = lookup(SYSTEMS, self.system, "system")(
                model.arch, len(split.classes), len(split.train), seed, **self.settings
            )
        teacher = self.teacher(context.reference or model) if self.distill else None
        objective = Imitation(teacher, MATCHES[self.match], self.distill, task, self.task, end_epoch)
        masks = masks_of(model)
        hold = mask_enforcer(net, masks)
        checkpoint = None if context.work is None else context.work / "finetune.checkpoint"
        with_norms = self.norms and self.epochs > 0
        norms = with_temporary_norms(net, split.train, model.arch.input, seed=seed) if with_norms else nullcontext()
        with reduced_dropout(net, masks, model.arch.input), norms:
            log = fit(
                net, objective, split.train, model.arch.input, self.schedule(len(split.train)),
                seed=seed, checkpoint=checkpoint, after_step=hold, device=context.device,
            )  # fmt: skip
        hold()
        return log


def outputs_match(model: HashModel, reference: HashModel, split: Split) -> bool:
    """Return whether the outputs of two networks are equal up to rounding, so that there is nothing to learn."""
    some = split.train.values[:PROBES]
    if not len(some):
        return False  # training reports missing images
    current, target = outputs(model, some), outputs(reference, some)
    return bool(np.abs(current - target).max(initial=0.0) <= NOISE * np.abs(target).mean())


class Bfloat16Net(nn.Module):
    """A network whose convolutions and matrix products run in bfloat16."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs

    def forward(self, images: Tensor) -> Tensor:
        """Return the outputs in single precision."""
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.net(images).float()


class Imitation:
    """A weighted sum of the loss of a system and the distance to the outputs of a teacher."""

    def __init__(
        self,
        teacher: nn.Module | None,
        match: Match,
        distill: float,
        task: Objective | None,
        weight: float,
        on_epoch_end: Callable[[], None] | None = None,
    ) -> None:
        self._teacher, self._match, self._distill = teacher, match, distill
        self._task, self._weight, self._on_epoch_end = task, weight, on_epoch_end
        if teacher is not None:
            teacher.requires_grad_(requires_grad=False).eval()

    @property
    def settings(self) -> dict[str, Json]:
        """Return the weights of both losses and the settings of the system."""
        own = {} if self._task is None else dict(self._task.settings)
        return {"distill": self._distill, "task": self._weight, "system": own}

    def __call__(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the weighted sum of both losses."""
        loss = outputs.new_zeros(())
        if self._task is not None:
            loss = loss + self._weight * self._task(outputs, batch)
        if self._teacher is not None:
            with torch.no_grad():
                targets = self._teacher(batch.inputs)
            loss = loss + self._distill * self._match(outputs, targets)
        return loss

    def prepare(self, net: nn.Module, items: Items) -> None:
        """Let the system look at the network and the training items."""
        if self._task is not None:
            self._task.prepare(net, items)

    def to(self, device: torch.device) -> None:
        """Move the teacher and the system to the training device."""
        for part in (self._teacher, self._task):
            if part is not None:
                part.to(device)

    def parameters(self) -> Iterator[nn.Parameter]:
        """Return the parameters of the system; the teacher is not trained."""
        return iter(()) if self._task is None else iter(self._task.parameters())

    def state_dict(self) -> dict[str, Any]:
        """Return the system's state."""
        return {} if self._task is None else self._task.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore the system's state."""
        if self._task is not None:
            self._task.load_state_dict(state_dict)

    def end_epoch(self) -> None:
        """Call ``on_epoch_end`` and notify the system."""
        if self._on_epoch_end is not None:
            self._on_epoch_end()
        if self._task is not None:
            self._task.end_epoch()
