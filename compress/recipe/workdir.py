"""Finished steps of a run on disk; each knows all that it was made of, so that a corrected recipe goes on from those before."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...core.errors import InputError
from ...core.files import atomic_write
from ...core.model import HashModel, Json
from ...modelfile.container import dump
from ...modelfile.encoded import EncodedModel
from ...modelfile.file import load
from ...modelfile.reader import read_manifest
from .ledger import Line

MARKER = "run.json"
UNREADABLE = (OSError, ValueError, TypeError, KeyError, RecursionError, InputError)


@dataclass(frozen=True)
class Kept:
    """The folder of finished steps; ``prefixes`` are hashes of what each step is made of, the steps before it included."""

    folder: Path
    arch: Mapping[str, Json]
    prefixes: tuple[str, ...]

    def step(self, number: int) -> tuple[HashModel, Line] | None:
        """Return a finished step; None where there is none, it is of another run, or cannot be read."""
        model = self._place(number, "safetensors")
        try:
            found = json.loads(self._place(number, "json").read_text(encoding="utf-8"))
            if found["prefix"] != self.prefixes[number - 1] or read_manifest(model)["arch"] != self.arch:
                return None
            # code, where the network is of somebody's own, is that which made the network that the run started from
            return load(model, trust_code=True), Line(**found["line"])
        except UNREADABLE:
            return None

    def unfinished(self, number: int) -> Path:
        """Return the folder for a step's training, made where it is not there."""
        folder = self._unfinished(number)
        folder.mkdir(exist_ok=True)
        return folder

    def keep(self, number: int, encoded: EncodedModel, line: Line) -> None:
        """Write a finished step in the place of its training."""
        about = self._place(number, "json")
        about.unlink(missing_ok=True)  # that of another run must not stand beside this model
        encoded.write(self._place(number, "safetensors"))
        with atomic_write(about, "w") as handle:
            handle.write(dump({"prefix": self.prefixes[number - 1], "line": line.to_json()}))
        shutil.rmtree(self._unfinished(number), ignore_errors=True)

    def drop(self, *, empty_only: bool = False) -> None:
        """Remove the folder, or only one without anything to go on from."""
        if empty_only and any(path.is_file() and path.name != MARKER for path in self.folder.rglob("*")):
            return
        shutil.rmtree(self.folder, ignore_errors=empty_only)

    def _place(self, number: int, suffix: str) -> Path:
        return self.folder / f"step{number:02}.{suffix}"

    def _unfinished(self, number: int) -> Path:
        return self.folder / f"step{number:02}.{self.prefixes[number - 1][:8]}"


def opened(folder: Path, start: HashModel, made_of: Mapping[str, Json], steps: Sequence[str], *, resume: bool) -> Kept:
    """Return the folder of a run from ``start``: ``made_of`` and the texts of its ``steps`` say which run it is.

    Raises:
        InputError: the folder is none of ours, cannot be made, or nothing in it is of this run.
    """
    marker, identity = folder / MARKER, {**made_of, "recipe": list(steps)}
    if folder.exists() and not marker.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is where finished steps are kept, but no run made it; move it away")
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
    prefixes = [hashlib.sha256(dump([made_of, steps[: end + 1]]).encode()).hexdigest() for end in range(len(steps))]
    return Kept(folder, json.loads(dump(start.arch.to_json())), tuple(prefixes))


def _check(folder: Path, marker: Path, identity: Mapping[str, Json]) -> None:
    """Raise InputError when a run has nothing to go on from, neither finished nor unfinished."""
    try:
        found = json.loads(marker.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        found = {}
    found = found if isinstance(found, dict) else {}
    other = [key for key, value in identity.items() if key != "recipe" and found.get(key) != value]
    before = found.get("recipe")
    if not isinstance(before, list) or before[:1] != identity["recipe"][:1]:
        other.insert(0, "recipe")
    if other:
        raise InputError(
            f"cannot resume: {folder} is of a run with another {', '.join(other)}; "
            "give the same again (steps behind the first may differ), or leave --resume away to start anew"
        )
