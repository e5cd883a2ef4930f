"""Work directory of a run: finished steps with hashes of everything they depend on, for resuming."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ...core.errors import InputError
from ...core.files import atomic_write, sha256_file
from ...core.model import HashModel, Json
from ...modelfile.container import dump
from ...modelfile.encoded import EncodedModel
from ...modelfile.file import load
from ...modelfile.reader import read_manifest
from .ledger import Line

MARKER = "run.json"
UNREADABLE = (OSError, ValueError, TypeError, KeyError, RecursionError, InputError)


@dataclass(frozen=True)
class WorkDirectory:
    """The work directory; ``prefixes`` are hashes of everything that each step depends on, including all earlier steps."""

    folder: Path
    arch: Mapping[str, Json]
    prefixes: tuple[str, ...]

    def step(self, number: int) -> tuple[HashModel, Line] | None:
        """Return a finished step, or None if it is missing, unreadable or from another run."""
        model = self._place(number, "safetensors")
        try:
            record = json.loads(self._place(number, "json").read_text(encoding="utf-8"))
            if record["prefix"] != self.prefixes[number - 1] or read_manifest(model)["arch"] != self.arch:
                return None
            # custom code is that of the network which the run started from
            return load(model, trust_code=True), Line(**record["line"])
        except UNREADABLE:
            return None

    def checkpoint_folder(self, number: int) -> Path:
        """Return the folder for training checkpoints of a step; it is created if needed."""
        folder = self._checkpoint_path(number)
        folder.mkdir(exist_ok=True)
        return folder

    def save(self, number: int, encoded: EncodedModel, line: Line) -> None:
        """Write a finished step and delete its training checkpoints."""
        about = self._place(number, "json")
        about.unlink(missing_ok=True)  # a line of another run must not remain next to this model
        encoded.write(self._place(number, "safetensors"))
        with atomic_write(about, "w") as handle:
            handle.write(dump({"prefix": self.prefixes[number - 1], "line": line.to_json()}))
        shutil.rmtree(self._checkpoint_path(number), ignore_errors=True)

    def remove(self, *, empty_only: bool = False) -> None:
        """Delete the folder; with ``empty_only``, only if it holds no finished or unfinished step."""
        if empty_only and any(path.is_file() and path.name != MARKER for path in self.folder.rglob("*")):
            return
        shutil.rmtree(self.folder, ignore_errors=empty_only)

    def _place(self, number: int, suffix: str) -> Path:
        return self.folder / f"step{number:02}.{suffix}"

    def _checkpoint_path(self, number: int) -> Path:
        return self.folder / f"step{number:02}.{self.prefixes[number - 1][:8]}"


def kept(folder: Path) -> str:
    """Return what a work directory keeps of an interrupted run, in words; empty if there is nothing to resume from."""
    if not (folder / MARKER).exists():
        return ""
    steps = len(
        {path.stem for path in folder.glob("step*.json")} & {path.stem for path in folder.glob("step*.safetensors")}
    )
    unfinished = any(path.is_file() for path in folder.glob("step*/**/*"))
    found = [f"{steps} finished step{'s' * (steps > 1)}"] * bool(steps) + [
        "the state of an unfinished step"
    ] * unfinished
    return " and ".join(found)


def open_work_directory(
    folder: Path, start: HashModel, identity: Mapping[str, Json], *, resume: bool, restart: bool = False
) -> WorkDirectory:
    """Return the work directory of the run from ``start`` that has this :func:`identity`.

    Raises:
        InputError: The folder is not a work directory, cannot be created, holds another run, or has steps of which
            neither ``resume`` nor ``restart`` says what to do with them.
    """
    marker = folder / MARKER
    if folder.exists() and not marker.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} must hold the finished steps of a run, but it is another folder; move it away")
    if not resume and not restart and (found := kept(folder)):
        raise InputError(
            f"{folder} keeps {found} of an earlier run: go on from there with --resume, or discard that and start over "
            "with --restart"
        )
    if folder.exists() and not resume:
        shutil.rmtree(folder)
    if marker.exists():
        _check(folder, marker, identity)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as fault:
        raise InputError(f"cannot write {folder}: {fault.strerror}") from fault
    try:
        with atomic_write(marker, "w") as handle:
            handle.write(dump(identity))
    except BaseException:
        if not any(folder.iterdir()):
            folder.rmdir()
        raise
    made_of = {key: value for key, value in identity.items() if key != "recipe"}
    steps = identity["recipe"]
    prefixes = [hashlib.sha256(dump([made_of, steps[: end + 1]]).encode()).hexdigest() for end in range(len(steps))]
    return WorkDirectory(folder, json.loads(dump(start.arch.to_json())), tuple(prefixes))


def is_finished(out: Path, record: Path, identity: Mapping[str, Json]) -> bool:
    """Return whether ``out`` is the unchanged result of the run with this identity."""
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
        return found == {**json.loads(dump(identity)), "result": sha256_file(out)}
    except (OSError, ValueError, RecursionError):
        return False


def _check(folder: Path, marker: Path, identity: Mapping[str, Json]) -> None:
    """Check that a folder has steps that this run can resume from.

    Raises:
        InputError: The folder is from another run.
    """
    try:
        actual = json.loads(marker.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        actual = {}
    actual = actual if isinstance(actual, dict) else {}
    other = [key for key, value in identity.items() if key != "recipe" and actual.get(key) != value]
    before = actual.get("recipe")
    if not isinstance(before, list) or before[:1] != identity["recipe"][:1]:
        other.insert(0, "recipe")
    if other:
        raise InputError(
            f"cannot resume: {folder} belongs to a run with another {', '.join(other)}; "
            "give the same again (steps after the first may differ), or start over with --restart"
        )
