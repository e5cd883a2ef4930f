"""A recipe at work: step by step, with a ledger, each step kept so that a run that was killed goes on."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.data.images import Split
from ..core.errors import InputError, RecipeError
from ..core.files import atomic_write
from ..core.model import HashModel, Json, Step
from ..core.once import remembering
from .container import dump
from .ledger import Ledger, Line, measured
from .modelfile import content, load, save
from .passes.looks import looks
from .passes.step import Pass, settings_of
from .preview import named

if TYPE_CHECKING:
    from .plan import Recipe  # whose method this is

MARKER = "run.json"


def compress(
    model: HashModel,
    recipe: Recipe,
    split: Split | None,
    *,
    out: str | os.PathLike[str] | None = None,
    seed: int = 0,
    resume: bool = False,
) -> HashModel:
    """Return ``model`` after all passes of ``recipe``; ``model`` itself stays as it is.

    With ``out`` the model file, ``out.recipe.toml`` (every setting written out) and ``out.ledger.json`` are written at
    the end. Until then finished steps stand in the folder ``out.work``, from which ``resume`` goes on.

    Raises:
        RecipeError: all problems of the recipe, before anything runs.
        InputError: a pass failed (named with its step), a file cannot be written, or ``out.work`` is of another run.
    """
    passes = recipe.passes()
    blind = (
        [] if split is not None else [(number, name) for number, (name, item) in enumerate(passes, 1) if looks(item)]
    )
    if blind:
        problems = [f"step {number} ({name}) needs training images" for number, name in blind]
        raise RecipeError([*problems[:-1], f"{problems[-1]}; name a data set with --data"])
    if out is None:
        return _Run(model, recipe, split, seed, None).through(passes)
    out = Path(out)
    work = out.with_name(f"{out.name}.work")
    identity = _identity(model, recipe, split, seed)
    if out.is_dir():
        raise InputError(f"cannot write {out}: it is a folder")
    if work.exists() and not (work / MARKER).exists() and (not work.is_dir() or any(work.iterdir())):
        raise InputError(f"{work} is where finished steps are kept, but no run made it; move it away")
    if work.exists() and not resume:
        shutil.rmtree(work)
    try:
        _open(work, identity)
        run = _Run(model, recipe, split, seed, work)
        result = run.through(passes)
        _finish(out, result, recipe, run.ledger)
    except BaseException:
        if not [path for path in work.rglob("*") if path.is_file() and path.name != MARKER]:
            shutil.rmtree(work, ignore_errors=True)  # nothing to go on from
        raise
    shutil.rmtree(work)
    return result


@dataclass
class _Run:
    start: HashModel
    recipe: Recipe
    split: Split | None
    seed: int
    work: Path | None
    ledger: Ledger = field(default_factory=lambda: Ledger(()))

    def through(self, passes: list[tuple[str, Pass]]) -> HashModel:
        """Return the model after all passes, taking finished steps from the work folder."""
        figures = measured(self.start, self.start, self.split, self.recipe.measure)
        lines, model = [Line(0, "start", figures=figures)], self.start
        for number, (name, item) in enumerate(passes, start=1):
            kept = self._kept(number)
            if kept is not None:
                model, line = kept
            else:
                with named(number, name):
                    model, line = self._step(number, name, item, model, lines[-1])
                self._keep(number, model, line)
            lines.append(line)
            self.ledger = Ledger(tuple(lines))
        return model

    def _step(self, number: int, name: str, item: Pass, model: HashModel, last: Line) -> tuple[HashModel, Line]:
        folder = None
        if self.work is not None:
            folder = self.work / f"step{number:02}"
            folder.mkdir(exist_ok=True)
        with remembering(model):
            decision = item.decide(model, self.split, seed=self.seed)
            result = item(model, self.split, seed=self.seed, reference=self.start, work=folder)
        before = {key: value for key, value in last.figures.items() if key in ("bytes", "map", "error")}
        step: Step = replace(result.history[-1], before=before)
        result = replace(result, history=(*result.history[:-1], step))
        figures = measured(result, self.start, self.split, self.recipe.measure)
        return result, Line(number, name, settings_of(item), decision, figures)

    def _kept(self, number: int) -> tuple[HashModel, Line] | None:
        if self.work is None or not (self.work / f"step{number:02}.json").exists():
            return None
        line = json.loads((self.work / f"step{number:02}.json").read_text(encoding="utf-8"))
        return load(self.work / f"step{number:02}.safetensors", trust_code=True), Line(**line)

    def _keep(self, number: int, model: HashModel, line: Line) -> None:
        if self.work is None:
            return
        save(model, self.work / f"step{number:02}.safetensors")
        with atomic_write(self.work / f"step{number:02}.json", "w") as handle:
            handle.write(dump(line.to_json()))
        shutil.rmtree(self.work / f"step{number:02}", ignore_errors=True)


def _identity(model: HashModel, recipe: Recipe, split: Split | None, seed: int) -> dict[str, Json]:
    """Return what must be the same for a run to go on."""
    digest = hashlib.sha256()
    for part in content(model):
        digest.update(part)
    data = None if split is None else split.digest
    return {"model": digest.hexdigest(), "recipe": recipe.to_toml(), "data": data, "seed": seed}


def _open(work: Path, identity: Mapping[str, Json]) -> None:
    """Make the work folder, or check that it is of the same run."""
    marker = work / MARKER
    if not work.exists():
        try:
            work.mkdir()
        except OSError as fault:
            raise InputError(f"cannot write {work}: {fault.strerror}") from fault
    if not marker.exists():
        with atomic_write(marker, "w") as handle:
            handle.write(dump(identity))
        return
    try:
        found = json.loads(marker.read_text(encoding="utf-8"))
    except ValueError:
        found = {}
    other = [key for key, value in identity.items() if not isinstance(found, dict) or found.get(key) != value]
    if other:
        raise InputError(
            f"cannot resume: {work} is of a run with another {', '.join(other)}; "
            "give the same again, or leave --resume away to start anew"
        )


def _finish(out: Path, model: HashModel, recipe: Recipe, ledger: Ledger) -> None:
    """Write the three files, or none."""
    beside = (out.with_name(f"{out.name}.recipe.toml"), out.with_name(f"{out.name}.ledger.json"))
    ready = [path.with_name(f"{path.name}.new") for path in beside]  # an earlier run's files stay until all is written
    try:
        for path, text in zip(ready, (recipe.to_toml(), json.dumps(ledger.to_json(), indent=1) + "\n"), strict=True):
            with atomic_write(path, "w") as handle:
                handle.write(text)
        save(model, out)
        for new, path in zip(ready, beside, strict=True):
            new.replace(path)
    finally:
        for path in ready:
            path.unlink(missing_ok=True)
