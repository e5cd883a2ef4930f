"""A recipe without its training: what each pass would decide, and how large the file would be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any

from ...core.data.images import Split
from ...core.errors import HashpressError, InputError, RecipeError
from ...core.model import HashModel
from ...core.once import remembering
from ..base import Pass, settings_of
from .check import objections
from .ledger import Ledger, Line, measured, warnings_of

UNTRAINED = {"stages": 1, "finetune": None, "bytes": None, "steps": 0}


def preview(
    model: HashModel,
    passes: Sequence[tuple[str, Pass]],
    split: Split | None = None,
    *,
    seed: int = 0,
    measure: Sequence[str] = (),
) -> Ledger:
    """Return what each pass would decide and the size of the file behind it, without any training.

    Raises:
        RecipeError: layers or measures that are not there, all together.
        InputError: a pass refused, named with its step.
    """
    problems = objections(passes, model, split, measure)
    if problems:
        raise RecipeError(problems)
    lines = [Line(0, "start", figures=measured(model, model, None, ()))]
    for number, (name, item) in enumerate(passes, start=1):
        with named(number, name), remembering(model):
            decision = item.decide(model, split, seed=seed)
            step = None
            if item.phase != "finetune":
                model = at_once(item)(model, split, seed=seed)
                step = model.history[-1]
        figures = measured(model, model, None, ())
        lines.append(Line(number, name, settings_of(item), decision, figures, warnings_of(figures, step)))
    return Ledger(tuple(lines))


def at_once(item: Any) -> Any:
    """Return the pass without the training inside it."""
    return replace(item, **{field.name: UNTRAINED[field.name] for field in fields(item) if field.name in UNTRAINED})


@contextmanager
def named(number: int, name: str) -> Iterator[None]:
    """Wrap whatever a pass raises in this block, once, with its step and name."""
    where = f"step {number} ({name})"
    try:
        yield
    except RecipeError as fault:
        raise RecipeError([f"{where}: {problem}" for problem in fault.problems]) from fault
    except InputError as fault:
        raise InputError(f"{where}: {fault}") from fault
    except Exception as fault:
        raise HashpressError(f"{where}: {type(fault).__name__}: {fault}") from fault
