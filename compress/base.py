"""What passes share: the protocol, and the line they add to a model's history."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from ..core.data.images import Split
from ..core.model import HashModel, Json, Step


class Pass(Protocol):
    """A frozen dataclass whose fields are its settings; it returns a new model and leaves the one given alone."""

    phase: ClassVar[str]

    def decide(self, model: HashModel, split: Split | None = None, *, seed: int = 0) -> dict[str, Json]:
        """Return what would be done, as plain JSON-able data."""

    def __call__(
        self,
        model: HashModel,
        split: Split | None = None,
        *,
        seed: int = 0,
        reference: HashModel | None = None,
        work: Path | None = None,
    ) -> HashModel:
        """Return the changed model; ``reference`` is what to imitate, ``work`` a folder for unfinished training."""


def settings_of(settings: Any) -> dict[str, Json]:
    """Return those fields of a pass that differ from their defaults, as plain JSON."""
    value = {}
    for field in fields(settings):
        content = getattr(settings, field.name)
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        if content != default:
            value[field.name] = _plain(content)
    return value


def step_of(name: str, settings: Any, seed: int | None = None, **after: Json) -> Step:
    """Return the line of history that a pass leaves."""
    return Step(name, settings_of(settings), seed, after=after)


def _plain(content: Any) -> Json:
    if is_dataclass(content):
        return settings_of(content)
    if isinstance(content, Mapping):
        return {key: _plain(value) for key, value in content.items()}
    return [_plain(item) for item in content] if isinstance(content, tuple | list) else content
