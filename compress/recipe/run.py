"""Execution of a recipe step by step, with a ledger, and with finished steps saved for resuming."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from ...core.data.images import Split
from ...core.device import open_device
from ...core.errors import InputError, RecipeError
from ...core.files import atomic_write
from ...core.lock import locked
from ...core.model import HashModel, Json, Step
from ...core.progress import stage
from ...hashnets.repeatable import check_repeatable
from ...modelfile.encoded import EncodedModel
from ...modelfile.file import encode, load
from ..base import Context, Pass, settings_of
from .check import missing_images, recipe_problems
from .ledger import Ledger, Line, measured, warnings_of
from .preview import errors_named_by_step
from .workdir import WorkDirectory, is_finished, open_work_directory


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


@dataclass(frozen=True)
class StepEnd:
    """A step that has ended, as it is told while the run goes on; step 0 is the network before compression.

    ``seconds`` is None for a step that an earlier run finished, ``model`` if the whole run was finished before.
    """

    line: Line
    steps: int  # of the whole run
    bytes_before: int
    seconds: float | None
    model: HashModel | None


OnStep = Callable[[StepEnd], None]


@dataclass(frozen=True)
class RunFiles:
    """The files of a run that writes ``out``."""

    out: Path

    def beside(self, suffix: str) -> Path:
        """Return the path of ``out`` with ``.suffix`` added."""
        return self.out.with_name(f"{self.out.name}.{suffix}")

    @property
    def work(self) -> Path:
        """The work directory, which is gone when the run has ended."""
        return self.beside("work")

    @property
    def written(self) -> tuple[Path, Path, Path]:
        """What is written next to the model file: recipe, ledger, and what the run was made of."""
        return self.beside("recipe.toml"), self.beside("ledger.json"), self.beside("run.json")


def compress(
    model: HashModel,
    recipe: RecipeToRun,
    split: Split | None,
    *,
    out: str | os.PathLike[str] | None = None,
    seed: int = 0,
    resume: bool = False,
    restart: bool = False,
    device: str = "cpu",
    on_step: OnStep | None = None,
) -> HashModel:
    """Return ``model`` after all passes of ``recipe``; ``model`` itself is not changed.

    With ``out``, the model file, ``out.recipe.toml`` (the recipe with all settings), ``out.ledger.json`` and
    ``out.run.json`` (what the run was made of) are written at the end. Until then, finished steps are stored in the work
    directory ``out.work``. With ``resume``, a run continues after the last finished step that is still valid: if the
    recipe was changed, after the steps before the first change; a finished run is only loaded. ``restart`` discards the
    steps that an earlier run left. Passes train on ``device``, cpu or cuda. ``on_step`` is called after each step.

    Raises:
        RecipeError: All problems of the recipe, by itself or with this network and data, before anything runs.
        InputError: A pass failed (the message names its step), a file cannot be written, ``out.work`` belongs to another
            run or has steps that are neither resumed nor discarded, another process writes ``out``, or the network gives
            other outputs each time.
    """
    open_device(device)
    passes = recipe.passes()
    problems = [*missing_images(passes, split), *recipe_problems(passes, model, split, recipe.measure)]
    if problems:
        raise RecipeError(problems)
    check_repeatable(model, split)
    encoded = encode(model)
    if out is None:
        return _Run(model, encoded, recipe, split, seed, device, None, on_step).through(passes)[0]
    places = RunFiles(Path(out))
    if places.out.is_dir():
        raise InputError(f"cannot write {out}: it is a folder")
    identity = {
        "measure": list(recipe.measure),
        "model": encoded.digest,
        "data": None if split is None else split.digest,
        "seed": seed,
        **({} if device == "cpu" else {"device": device}),
        "recipe": recipe.steps(),
    }  # what must not change for a run to be resumed; steps only up to the one that goes on
    with locked(places.out):
        if resume and not places.work.exists() and is_finished(places.out, places.written[-1], identity):
            return _told(places, on_step)
        work = open_work_directory(places.work, model, identity, resume=resume, restart=restart)
        try:
            run = _Run(model, encoded, recipe, split, seed, device, work, on_step)
            result, encoded = run.through(passes)
            _finish(places, encoded, recipe, run.ledger, identity)
        except BaseException:
            work.remove(empty_only=True)  # nothing to resume from
            raise
        work.remove()
    return result


def _told(places: RunFiles, on_step: OnStep | None) -> HashModel:
    """Return the model of a finished run, and tell its steps again."""
    if on_step is not None and places.written[1].exists():
        lines = [Line(**line) for line in json.loads(places.written[1].read_text(encoding="utf-8"))]
        for line, before in zip(lines, [lines[0], *lines], strict=False):
            on_step(StepEnd(line, len(lines) - 1, before.figures["bytes"], None, None))
    return load(places.out, trust_code=True)  # it is the code of the network that the run started from


@dataclass
class _Run:
    start: HashModel
    encoded: EncodedModel  # of the start
    recipe: RecipeToRun
    split: Split | None
    seed: int
    device: str
    work: WorkDirectory | None
    on_step: OnStep | None = None
    ledger: Ledger = field(default_factory=lambda: Ledger(()))

    def through(self, passes: list[tuple[str, Pass]]) -> tuple[HashModel, EncodedModel]:
        """Return the model after all passes and its encoded file; finished steps are loaded from the work directory."""
        model, encoded = self.start, self.encoded
        with stage("start"):
            lines = [Line(0, "start", figures=self._measured(model, encoded))]
            self._tell(lines, len(passes), None, model)
        for number, (name, item) in enumerate(passes, start=1):
            finished = self.work.step(number) if self.work else None
            begin, seconds = time.perf_counter(), None
            with stage(f"step {number}/{len(passes)} {name}"):
                if finished is None:
                    with errors_named_by_step(number, name):
                        model, encoded, line = self._step(number, name, item, model, lines[-1])
                    if self.work:
                        self.work.save(number, encoded, line)
                    seconds = time.perf_counter() - begin
                else:
                    model, line = finished
                    if number == len(passes):
                        encoded = encode(model)
                lines.append(line)
                self.ledger = Ledger(tuple(lines))
                self._tell(lines, len(passes), seconds, model)
        return model, encoded

    def _tell(self, lines: list[Line], steps: int, seconds: float | None, model: HashModel) -> None:
        if self.on_step is not None:
            before = lines[max(len(lines) - 2, 0)].figures["bytes"]
            self.on_step(StepEnd(lines[-1], steps, before, seconds, model))

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


def _finish(
    places: RunFiles, encoded: EncodedModel, recipe: RecipeToRun, ledger: Ledger, identity: Mapping[str, Json]
) -> None:
    """Write all four files, or none."""
    ready = [
        path.with_name(f"{path.name}.new") for path in places.written
    ]  # an earlier run's stay until all is written
    ledger_text = json.dumps(ledger.to_json(), indent=1) + "\n"
    record_text = json.dumps({**identity, "result": encoded.digest}, indent=1) + "\n"
    try:
        for path, text in zip(ready, (recipe.to_toml(), ledger_text, record_text), strict=True):
            with atomic_write(path, "w") as handle:
                handle.write(text)
        encoded.write(places.out)
        for new, path in zip(ready, places.written, strict=True):
            new.replace(path)
    finally:
        for path in ready:
            path.unlink(missing_ok=True)
