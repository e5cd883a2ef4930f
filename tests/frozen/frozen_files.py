"""Frozen files: how they are made again, what is recorded of them, and how a record is compared with another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import hashpress as hp
import numpy as np
import torch
from frozen_arithmetic import arithmetic
from frozen_cases import RUNS, STARTS, Run
from hashpress.cli.main import run
from hashpress.modelfile.reader import read_dense

FOLDER = Path(__file__).resolve().parent / "models"
EXPECTED = FOLDER.parent / "expected.json"
QUERIES = 100  # of the digits, whose codes are recorded
NEAR = 1e-4  # an output so near to zero may have another sign on another machine or in another kernel
Record = dict[str, Any]


def committed(name: str) -> Path:
    """Return the path of a frozen model file."""
    return FOLDER / f"{name}.safetensors"


@cache
def expected() -> Record:
    """Return all that was recorded."""
    return json.loads(EXPECTED.read_text(encoding="utf-8"))


def same_arithmetic() -> bool:
    """Return whether this machine computes as the one that wrote the files."""
    return arithmetic() == expected()["arithmetic"]


def compressed(case: Run, out: Path) -> list[Record]:
    """Run ``hashpress compress`` as people do, write ``out`` and return the ledger."""
    recipe = out.with_suffix(".toml")
    recipe.write_text(case.plan().to_toml(), encoding="utf-8")
    words = ["compress", committed(case.start), "--recipe", recipe, "--data", case.data, "-o", out]
    status = run([*map(str, words), "--seed", str(case.seed), "--threads", "1"])
    if status != 0:
        raise RuntimeError(f"hashpress {' '.join(map(str, words))} ended with {status}")
    return json.loads(out.with_name(f"{out.name}.ledger.json").read_text(encoding="utf-8"))


def digest(content: bytes) -> str:
    """Return SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


@cache
def pixels(shape: tuple[int, ...]) -> np.ndarray:
    """Return the digits whose codes are recorded, in the size that a network takes."""
    size = "" if shape[1] == 8 else f"?size={shape[1]}"
    return hp.load_data(f"digits{size}").queries.pixels[:QUERIES]


def outputs(model: hp.HashModel) -> np.ndarray:
    """Return the real outputs for the recorded queries."""
    torch.set_num_threads(1)
    return hp.outputs(model, pixels(tuple(model.arch.input.shape)))


def dense_digest(path: Path) -> str:
    """Return a hash of all weights as the reader decodes them that knows no torch."""
    found = hashlib.sha256()
    for name, array in sorted(read_dense(path).items()):
        found.update(f"{name} {array.dtype} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def file_record(path: Path) -> Record:
    """Return what a model file is: its bytes, structure, decoded weights and codes."""
    model = hp.load(path)
    return {
        "bytes": path.stat().st_size,
        "sha256": digest(path.read_bytes()),
        "arch": model.arch.to_json(),
        "edits": json.loads(json.dumps([{"kind": edit.kind, **asdict(edit)} for edit in model.edits])),
        "tensors": {
            name: [str(value.dtype).removeprefix("torch."), list(value.shape)]
            for name, value in model.net.state_dict().items()
        },
        "dense": dense_digest(path),
        "codes": hp.pack(outputs(model)).tobytes().hex(),
    }


def frozen(name: str) -> Record:
    """Return what is recorded of a file, its codes as an array."""
    record = expected()["files"][name]
    return record | {"codes": codes_of(record)}


def codes_of(record: Record) -> np.ndarray:
    """Return the packed codes (queries, bytes) of a record."""
    return np.frombuffer(bytes.fromhex(record["codes"]), dtype=np.uint8).reshape(QUERIES, -1)


def outline(value: Any) -> Any:
    """Return a value of JSON with the type of every number in its place: what is the same on every processor."""
    if isinstance(value, Mapping):
        return {key: outline(item) for key, item in value.items()}
    if isinstance(value, list):
        return [outline(item) for item in value]
    return type(value).__name__ if isinstance(value, int | float) and not isinstance(value, bool) else value


STRUCTURE = ("arch", "edits", "tensors")


def changes(found: Record, wanted: Record, share: float, *, exact: bool) -> list[str]:
    """Return what differs between two records of the same run.

    ``exact``: everything counts. Otherwise the structure, the keys of the ledger, and codes of which more than ``share``
    of the bits differ.
    """
    if exact:
        return [_told(key, found.get(key), wanted[key]) for key in wanted if found.get(key) != wanted[key]]
    differing = []
    for key in STRUCTURE:
        here, there = found[key], wanted[key]
        if key == "edits":
            here, there = _without_floats(here), _without_floats(there)
        if here != there:
            differing.append(_told(key, here, there))
    if "ledger" in wanted and outline(_unwarned(found["ledger"])) != outline(_unwarned(wanted["ledger"])):
        differing.append("ledger: other steps or other keys of a decision")
    flipped = float(np.unpackbits(codes_of(found) ^ codes_of(wanted)).sum()) / (QUERIES * wanted["arch"]["bits"])
    if flipped > share:
        differing.append(f"codes: {flipped:.2%} of the bits differ, at most {share:.2%} may")
    return differing


def _told(key: str, found: Any, wanted: Any) -> str:
    return f"{key}: {str(found)[:2000]} instead of {str(wanted)[:2000]}"


def _without_floats(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_floats(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_floats(item) for item in value]
    return "float" if isinstance(value, float) else value


def _unwarned(ledger: list[Record]) -> list[Record]:
    return [{key: value for key, value in line.items() if key != "warnings"} for line in ledger]


def share_of(name: str) -> float:
    """Return how many bits of a file's codes may differ where another arithmetic made it again."""
    return (STARTS[name] if name in STARTS else RUNS[name]).share
