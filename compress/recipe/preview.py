"""Preview of a recipe without training: the decision of each pass and the resulting file size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ...core.data.images import Split
from ...core.errors import HashpressError, InputError, RecipeError
from ...core.model import HashModel, Json
from ...hashnets.repeatable import check_repeatable
from ...modelfile.file import file_size
from ..base import Context, Pass, settings_of
from .check import recipe_problems
from .ledger import Ledger, Line, warnings_of


def preview(
    model: HashModel,
    passes: Sequence[tuple[str, Pass]],
    split: Split | None = None,
    *,
    seed: int = 0,
    measure: Sequence[str] = (),
) -> Ledger:
    """Return the decision of each pass and the file size after it, without any training.

    Raises:
        RecipeError: Layers or measures that do not exist; all problems together.
        InputError: A pass failed; the message names its step.
    """
    problems = recipe_problems(passes, model, split, measure)
    if problems:
        raise RecipeError(problems)
    check_repeatable(model, split)
    figures: dict[str, Json] = {"bytes": file_size(model)}
    lines = [Line(0, "start", figures=figures)]
    for number, (name, item) in enumerate(passes, start=1):
        with errors_named_by_step(number, name):
            changed, decision = item.preview(model, Context(split, seed))
        step = None
        if changed is not model:
            model, step, figures = changed, changed.history[-1], {"bytes": file_size(changed)}
        lines.append(Line(number, name, settings_of(item), decision.data, figures, warnings_of(figures, step)))
    return Ledger(tuple(lines))


@contextmanager
def errors_named_by_step(number: int, name: str) -> Iterator[None]:
    """Prefix the errors raised in this block with the number and name of the step."""
    where = f"step {number} ({name})"
    try:
        yield
    except RecipeError as fault:
        raise RecipeError([f"{where}: {problem}" for problem in fault.problems]) from fault
    except InputError as fault:
        raise InputError(f"{where}: {fault}") from fault
    except Exception as fault:
        raise HashpressError(f"{where}: {type(fault).__name__}: {fault}") from fault
