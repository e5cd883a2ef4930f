"""Frozen bundles: which files are compiled for the host, and what is recorded of what comes out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hashpress as hp
from frozen_files import Record, committed, digest, pixels

BUNDLES = {  # and whether it takes long
    "lenet300-dpsh": False,
    "smallest": False,  # codebooks
    "int8-alone": False,
    "narrowed-repadded": True,  # residual joins
}


def compiled(name: str, out: Path) -> hp.Runtime:
    """Return an open bundle of a frozen file."""
    hp.compile_model(hp.load(committed(name)), "host", out)
    return hp.Runtime(out)


def bundle_record(name: str, out: Path) -> Record:
    """Compile a frozen file and return the keys of the manifest, the model inside, and the codes it gives."""
    runtime = compiled(name, out)
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    return {
        "parts": sorted(path.name for path in out.iterdir()),
        "manifest": keys(manifest),
        "model": digest((out / "model.safetensors").read_bytes()),
        "codes": runtime.encode(pixels(tuple(manifest["input"]["shape"]))).tobytes().hex(),
    }


def keys(value: Any) -> Any:
    """Return the keys of a manifest, tables within it too; of a list the keys that its tables have."""
    if isinstance(value, Mapping):
        return {key: keys(item) for key, item in sorted(value.items()) if key not in ("tensors", "tvm")}
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        return sorted({key for item in value for key in item})
    return type(value).__name__
