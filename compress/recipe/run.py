"""Execution of a recipe step by step, with a ledger, and with finished steps saved for resuming."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from ...core.data.images import Split
from ...core.device import open_device
from ...core.errors import InputError, RecipeError
from ...core.files import atomic_write
from ...core.model import HashModel, Json, Step
from ...modelfile.encoded import EncodedModel
from ...modelfile.file import encode
from ..base import Context, Pass, settings_of
from .check import missing_images, recipe_problems
from .ledger import Ledger, Line, measured, warnings_of
from .preview import errors_named_by_step
from .workdir import WorkDirectory, open_work_directory


class RecipeToRun(Protocol):
    """Protocol of a recipe that can be run."""

    @property
    def measure(self) -> tuple[str, ...]:
        """Figures that are measured after each step."""

    def passes(self) -> list[tuple[str, Pass]]:
        """Return the passes with their names."""

    def steps(self) -> list[str]:
        """Return each pass as TOML."""

    def to_toml(self) -> str:
        """Return the whole recipe as TOML."""


def compress(
    model: HashModel,
    recipe: RecipeToRun,
    split: Split | None,
    *,
    out: str | os.PathLike[str] | None = None,
    seed: int = 0,
    resume: bool = False,
    device: str = "cpu",
) -> HashModel:
    """Return ``model`` after all passes of ``recipe``; ``model`` itself is not changed.

    With ``out``, the model file, ``out.recipe.toml`` (the recipe with all settings) and ``out.ledger.json`` are written
    at the end. Until then, finished steps are stored in the work directory ``out.work``. With ``resume``, a run
    continues after the last finished step that is still valid: if the recipe was changed, after the steps before the
    first change. Passes train on ``device``, cpu or cuda.

    Raises:
        RecipeError: All problems of the recipe, by itself or with this network and data, before anything runs.
        InputError: A pass failed (the message names its step), a file cannot be written, or ``out.work`` belongs to another run.
    """
    open_device(device)
    passes = recipe.passes()
    problems = [*missing_images(passes, split), *recipe_problems(passes, model, split, recipe.measure)]
    if problems:
        raise RecipeError(problems)
    encoded = encode(model)
    if out is None:
        return _Run(model, encoded, recipe, split, seed, device, None).through(passes)[0]
    out = Path(out)
    if out.is_dir():
        raise InputError(f"cannot write {out}: it is a folder")
    made_of = {
        "measure": list(recipe.measure),
        "model": encoded.digest,
        "data": None if split is None else split.digest,
        "seed": seed,
        **({} if device == "cpu" else {"device": device}),
    }  # what must not change for a run to be resumed, besides its steps
    work = open_work_directory(out.with_name(f"{out.name}.work"), model, made_of, recipe.steps(), resume=resume)
    try:
        run = _Run(model, encoded, recipe, split, seed, device, work)
        result, encoded = run.through(passes)
        _finish(out, encoded, recipe, run.ledger)
    except BaseException:
        work.remove(empty_only=True)  # nothing to resume from
        raise
    work.remove()
    return result


@dataclass
class _Run:
    start: HashModel
    encoded: EncodedModel  # of the start
    recipe: RecipeToRun
    split: Split | None
    seed: int
    device: str
    work: WorkDirectory | None
    ledger: Ledger = field(default_factory=lambda: Ledger(()))

    def through(self, passes: list[tuple[str, Pass]]) -> tuple[HashModel, EncodedModel]:
        """Return the model after all passes and its encoded file; finished steps are loaded from the work directory."""
        model, encoded = self.start, self.encoded
        lines = [Line(0, "start", figures=self._measured(model, encoded))]
        for number, (name, item) in enumerate(passes, start=1):
            finished = self.work.step(number) if self.work else None
            if finished is None:
                with errors_named_by_step(number, name):
                    model, encoded, line = self._step(number, name, item, model, lines[-1])
                if self.work:
                    self.work.save(number, encoded, line)
            else:
                model, line = finished
                if number == len(passes):
                    encoded = encode(model)
            lines.append(line)
            self.ledger = Ledger(tuple(lines))
        return model, encoded

    def _step(
        self, number: int, name: str, item: Pass, model: HashModel, last: Line
    ) -> tuple[HashModel, EncodedModel, Line]:
        folder = self.work.checkpoint_folder(number) if self.work else None
        result, decision = item.run(model, Context(self.split, self.seed, self.start, folder, self.device))
        before = {key: value for key, value in last.figures.items() if key in ("bytes", "map", "error")}
        step: Step = replace(result.history[-1], before=before)
        result = replace(result, history=(*result.history[:-1], step))
        encoded = encode(result)
        figures = self._measured(result, encoded)
        line = Line(number, name, settings_of(item), decision.data, figures, warnings_of(figures, step))
        return result, encoded, line

    def _measured(self, model: HashModel, encoded: EncodedModel) -> dict[str, Json]:
        return measured(model, encoded.size, self.start, self.split, self.recipe.measure)


def _finish(out: Path, encoded: EncodedModel, recipe: RecipeToRun, ledger: Ledger) -> None:
    """Write all three files, or none."""
    beside = (out.with_name(f"{out.name}.recipe.toml"), out.with_name(f"{out.name}.ledger.json"))
    ready = [path.with_name(f"{path.name}.new") for path in beside]  # an earlier run's files stay until all is written
    try:
        for path, text in zip(ready, (recipe.to_toml(), json.dumps(ledger.to_json(), indent=1) + "\n"), strict=True):
            with atomic_write(path, "w") as handle:
                handle.write(text)
        encoded.write(out)
        for new, path in zip(ready, beside, strict=True):
            new.replace(path)
    finally:
        for path in ready:
            path.unlink(missing_ok=True)
