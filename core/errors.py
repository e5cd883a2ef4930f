"""Every error a user can cause, with the exit code of the command line.

HashpressError            1   a fault of ours
├── InputError            2   wrong usage, configuration or input
│   ├── DataError             a data spec, an image folder, a label file
│   ├── CheckpointError       a checkpoint that hashpress did not write
│   ├── ModelFileError        a model file of ours that is damaged, hostile or of another version
│   ├── RecipeError           passes, settings and their order; holds all problems at once
│   ├── BudgetError           a budget file
│   ├── ReportError           a report file
│   └── TargetError           an unknown target, a layer that cannot be lowered, a broken bundle
├── OverBudgetError       3   measured figures exceed the budget
├── DeviceError           4   a device that cannot be reached or failed while running
├── InterruptedRunError   130 a run that was interrupted, and how it is resumed
└── InconclusiveError     5   times are over the budget by less than the measurement can tell
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import TypeVar

Value = TypeVar("Value")


class HashpressError(Exception):
    """A fault of hashpress itself."""

    exit_code = 1


class InputError(HashpressError):
    """Wrong usage, configuration or input."""

    exit_code = 2


class DataError(InputError):
    """A data set cannot be read as asked."""


class CheckpointError(InputError):
    """A foreign checkpoint cannot be imported."""


class ModelFileError(InputError):
    """A model file is damaged, hostile or of an unknown version."""


class RecipeError(InputError):
    """One or more problems of a recipe, reported together."""

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("; ".join(self.problems))


class BudgetError(InputError):
    """A budget file is malformed."""


class ReportError(InputError):
    """A report file is malformed."""


class TargetError(InputError):
    """A target is unknown or a network cannot be compiled for it."""


class OverBudgetError(HashpressError):
    """Measured figures exceed the budget."""

    exit_code = 3


class DeviceError(HashpressError):
    """A device cannot be reached or failed while running."""

    exit_code = 4


class InterruptedRunError(HashpressError):
    """A run was interrupted; the message says what is kept and how to go on."""

    exit_code = 130


class InconclusiveError(HashpressError):
    """Times exceed the budget by less than the measurement can tell."""

    exit_code = 5


def lookup(registry: Mapping[str, Value], name: str, kind: str, error: type[HashpressError] = InputError) -> Value:
    """Return ``registry[name]``; an unknown name raises ``error`` with what exists and the nearest spelling."""
    if name in registry:
        return registry[name]
    near = get_close_matches(name, registry, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise error(f"unknown {kind} {name!r}{hint} (there are: {', '.join(registry)})")
