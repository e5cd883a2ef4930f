"""Base class of compression passes, with their context and decisions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, final

from ..core.data.images import Split
from ..core.errors import InputError
from ..core.model import HashModel, Json, Step
from ..core.usable_weights import unusable

PHASES = ("fold", "structure", "values", "finetune", "code")
FINAL = ("run", "preview", "__call__")


@dataclass(frozen=True)
class Context:
    """What a pass runs with: data set, random seed, reference network to imitate, checkpoint folder, and device.

    Without ``reference``, training imitates the network passed to the pass. Without ``work``, training cannot be
    resumed.
    """

    split: Split | None = None
    seed: int = 0
    reference: HashModel | None = None
    work: Path | None = None
    device: str = "cpu"  # on which passes train: cpu or cuda

    def training_split(self, item: Pass) -> Split:
        """Return the data set.

        Raises:
            InputError: There is no data set, or it has no training images.
        """
        if self.split is not None and len(self.split.train):
            return self.split
        other = f", or set {item.without_images}" if item.without_images else ""
        if self.split is None:
            raise InputError(f"{item.name} needs training images; name a data set with --data{other}")
        raise InputError(
            f"{item.name} needs training images, {self.split.name} has none; name another data set with --data{other}"
        )


@dataclass(frozen=True)
class Decision:
    """The result of :meth:`Pass.decide`.

    ``data`` is plain JSON; it is printed and stored in the ledger. ``plan`` holds anything else that :meth:`Pass.apply`
    needs. In ``data``, ``layers``, ``widths`` or ``density`` are tables of the layers that change, and ``skipped`` maps
    the other layers to the reason.

    Raises:
        TypeError: ``data`` is not plain JSON.
    """

    data: Mapping[str, Json]
    plan: Any = None

    def __post_init__(self) -> None:
        try:
            json.dumps(self.data)
        except (TypeError, ValueError) as fault:
            raise TypeError(
                f"the data of a decision must be plain JSON, arrays belong into its plan: {fault}"
            ) from fault


@dataclass(frozen=True)
class Pass:
    """Base class of all compression passes: a frozen dataclass whose fields are the settings of the pass.

    A pass returns a new model and does not change its input. A subclass sets ``name`` and ``phase`` (``fold``,
    ``structure``, ``values``, ``finetune`` or ``code``), and defines ``decide`` and either ``apply`` or, if training
    changes the decision, ``execute``.
    """

    name: ClassVar[str]
    phase: ClassVar[str]
    keeps_layer_names: ClassVar[bool] = False  # layers keep their names
    selects_compressed_layers: ClassVar[bool] = False  # settings may name compressed layers
    may_follow: ClassVar[tuple[str, ...]] = ()  # passes of later phases that it may follow
    refused_after: ClassVar[Mapping[str, str]] = MappingProxyType({})  # pass that it may not follow -> reason
    last_because: ClassVar[str] = ""  # why no pass that trains or changes values may follow
    without_images: ClassVar[str] = ""  # settings with which no training images are needed

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        if taken := [method for method in FINAL if method in vars(cls)]:
            raise TypeError(
                f"{cls.__name__}: {', '.join(taken)} of a pass is final; define decide, and apply or execute"
            )
        missing = [name for name in ("name", "phase") if not isinstance(getattr(cls, name, None), str)]
        if missing:
            raise TypeError(f"{cls.__name__}: a pass needs the class variable {' and '.join(missing)}, a text")
        if cls.phase not in PHASES:
            raise TypeError(f"{cls.__name__}: unknown phase {cls.phase!r} (there are: {', '.join(PHASES)})")
        if cls.decide is Pass.decide or (cls.apply is Pass.apply and cls.execute is Pass.execute):
            raise TypeError(f"{cls.__name__}: a pass defines decide, and apply or execute")

    @property
    def needs_images(self) -> bool:
        """Whether the pass with these settings needs training images."""
        return False

    def layer_keys(self) -> list[str]:
        """Return the layer names, patterns and keywords used by the settings."""
        values: list[Any] = [getattr(self, field.name) for field in fields(self)]
        keys = [key for value in values if isinstance(value, Mapping) for key in value]
        return list(dict.fromkeys([*keys, *getattr(self, "skip", ())]))

    def without_training(self) -> Pass | None:
        """Return the pass without its training, or None if the pass only trains."""
        return self

    def decide(self, model: HashModel, context: Context) -> Decision:
        """Return what the pass would do to ``model``, without changing or training it."""
        raise NotImplementedError

    def apply(self, model: HashModel, decision: Decision, context: Context) -> HashModel:
        """Return the changed model."""
        raise NotImplementedError

    def execute(self, model: HashModel, decision: Decision, context: Context) -> tuple[HashModel, Decision]:
        """Return the changed model and the decision that was actually applied."""
        return self.apply(model, decision, context), decision

    @final
    def run(self, model: HashModel, context: Context) -> tuple[HashModel, Decision]:
        """Return the changed model and the decision that was applied.

        Raises:
            InputError: Weights are not finite before or after the pass, or training images are needed and missing.
        """
        self._check(model, context)
        if self.needs_images:
            context.training_split(self)
        result, decision = self.execute(model, self.decide(model, context), context)
        if fault := unusable(result.net):
            raise InputError(f"{self.name} cannot treat this network: afterwards {fault}")
        return result, decision

    @final
    def preview(self, model: HashModel, context: Context) -> tuple[HashModel, Decision]:
        """Return the result of :meth:`run` without any training; raises the same errors."""
        untrained = self.without_training()
        if untrained is not None:
            return untrained.run(model, context)
        self._check(model, context)
        return model, self.decide(model, context)

    @final
    def __call__(
        self,
        model: HashModel,
        split: Split | None = None,
        *,
        seed: int = 0,
        reference: HashModel | None = None,
        work: Path | None = None,
        device: str = "cpu",
    ) -> HashModel:
        """Return the changed model. See :class:`Context` for the arguments and :meth:`run` for the errors."""
        return self.run(model, Context(split, seed, reference, work, device))[0]

    def step(self, seed: int | None = None, **after: Json) -> Step:
        """Return the history entry of this pass, with figures of the model after it (``after``)."""
        return Step(self.name, settings_of(self), seed, after=after)

    def _check(self, model: HashModel, context: Context) -> None:
        if fault := unusable(model.net):
            raise InputError(
                f"{self.name} needs weights that are numbers of a usable size, {fault}; train the network again"
            )
        if context.split is not None and self.needs_images:
            context.training_split(self)


def settings_of(settings: Any) -> dict[str, Json]:
    """Return the fields of a pass that differ from their defaults, as plain JSON."""
    value = {}
    for field in fields(settings):
        content = getattr(settings, field.name)
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        if content != default:
            value[field.name] = _plain(content)
    return value


def _plain(content: Any) -> Json:
    if is_dataclass(content):
        return settings_of(content)
    if isinstance(content, Mapping):
        return {key: _plain(value) for key, value in content.items()}
    return [_plain(item) for item in content] if isinstance(content, tuple | list) else content
