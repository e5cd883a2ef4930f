"""Write ``models/`` and ``expected.json``: the model files, bytes and codes that later versions are held to.

Run it only when a change of bytes is intended, and say in CHANGELOG.md which files changed and why:

    python tests/frozen/make.py            the first time; refuses to overwrite anything
    python tests/frozen/make.py --add      writes cases that are new, and leaves the others as they are
    python tests/frozen/make.py --force    writes everything anew
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TVM_NUM_THREADS"):
    os.environ[_name] = "1"

import json
import shutil

import hashpress as hp
import torch
from frozen_arithmetic import arithmetic
from frozen_bundles import BUNDLES, bundle_record
from frozen_cases import RUNS, STARTS
from frozen_files import EXPECTED, FOLDER, Record, committed, compressed, file_record


def started(name: str) -> Record:
    """Train a starting network, keep its file and return its record."""
    torch.set_num_threads(1)
    hp.save(STARTS[name].trained(), committed(name))
    return file_record(committed(name))


def ran(name: str) -> Record:
    """Run a recipe, keep the file and return its record."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / committed(name).name
        ledger = compressed(RUNS[name], out)
        shutil.copyfile(out, committed(name))
    return file_record(committed(name)) | {"ledger": ledger}


def bundled(name: str) -> Record:
    """Compile a frozen file for this machine and return the record of its bundle."""
    with tempfile.TemporaryDirectory() as folder:
        return bundle_record(name, Path(folder) / f"{name}.bundle")


def main(arguments: list[str]) -> int:
    """Write what the arguments ask for and return the exit code."""
    force, add = arguments == ["--force"], arguments == ["--add"]
    if arguments and not (force or add):
        sys.stderr.write(f"{__doc__}\n")
        return 2
    if EXPECTED.exists() and not (force or add):
        sys.stderr.write(f"{EXPECTED} exists: --add writes new cases, --force everything anew (see the docstring)\n")
        return 2
    old: Record = json.loads(EXPECTED.read_text(encoding="utf-8")) if add else {"files": {}, "bundles": {}}
    if old.get("arithmetic", arithmetic()) != arithmetic():
        sys.stderr.write("this machine computes otherwise than the one that wrote the files; --force writes all anew\n")
        return 2
    FOLDER.mkdir(exist_ok=True)
    jobs: list[tuple[str, str, Callable[[str], Record]]] = [
        *(("files", name, started) for name in STARTS),
        *(("files", name, ran) for name in RUNS),
        *(("bundles", name, bundled) for name in BUNDLES),
    ]
    new: Record = {"arithmetic": arithmetic(), "files": {}, "bundles": {}}
    for part, name, job in jobs:
        new[part][name] = old[part].get(name) or job(name)
    for path in FOLDER.iterdir():
        if path.stem not in new["files"]:
            path.unlink()
    EXPECTED.write_text(_json(new) + "\n", encoding="utf-8")
    return 0


def _json(value: object, depth: int = 0) -> str:
    """Return JSON with one line for each key of the upper levels, so that changes can be read."""
    if not isinstance(value, dict) or depth == 4 or not value:
        return json.dumps(value)
    space = " " * (depth + 1)
    rows = [f"{space}{json.dumps(key)}: {_json(item, depth + 1)}" for key, item in value.items()]
    return "{\n" + ",\n".join(rows) + "\n" + " " * depth + "}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
