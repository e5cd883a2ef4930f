"""Decoded images on disk, mapped into memory: decoding 60,000 JPEGs takes longer than most experiments on them.

An entry is a folder that appears whole (a rename) and is checked against its own hashes whenever it is opened, so
that any number of processes may share it; a damaged one is made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL

from ..errors import DataError
from .archive import fingerprint
from .class_folders import arrange
from .images import BLOCK, Images
from .source import Parts, shuffled
from .spec import Spec

VERSION = 1  # of the entries and of everything that decides their content
Produce = Callable[[], Iterable[tuple[str, np.ndarray]]]  # (name, (C, H, W) uint8)


def cache_dir() -> Path:
    """Return the user's cache folder: ``HASHPRESS_CACHE``, or ``hashpress`` in ``XDG_CACHE_HOME`` or ``~/.cache``."""
    if chosen := os.environ.get("HASHPRESS_CACHE"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "hashpress"


@dataclass(frozen=True)
class Entry:
    """One decoded data set in the cache: where it came from, its folder, and its size in bytes."""

    source: str
    path: Path
    bytes: int


def cache_entries() -> list[Entry]:
    """Return what the image cache holds, largest first; ``source`` is empty where an entry does not say it."""
    found = []
    root = cache_dir() / "images"
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        try:
            about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
            source = str(about.get("source", ""))
        except (OSError, ValueError, AttributeError):
            source = ""
        sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
        found.append(Entry(source, folder, sum(sizes)))
    return sorted(found, key=lambda entry: -entry.bytes)


def clear_cache() -> list[Entry]:
    """Delete the decoded images; they are made again when they are needed. Return what was deleted.

    Raises:
        DataError: an entry cannot be deleted.
    """
    found = cache_entries()
    for entry in found:
        try:
            shutil.rmtree(entry.path)
        except OSError as fault:
            raise DataError(f"cannot delete {entry.path}: {fault.strerror}") from fault
    return found


def cached(spec: Spec, chosen: str, produce: Produce) -> Parts:
    """Return the parts of ``produce()``, decoded at most once for this content of the spec's path.

    ``chosen`` says which of the files ``produce`` takes, and becomes part of the key.

    Raises:
        DataError: the cache folder cannot be written, or what ``produce`` raises.
    """
    key = [VERSION, PIL.__version__, np.__version__, spec.kind, fingerprint(spec.where), spec.size, spec.gray, chosen]
    key += [spec.resize] if spec.resize != "stretch" else []
    root = cache_dir() / "images"
    entry = root / hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]
    parts = _open(entry)
    if parts is None:
        with _workspace(root) as temporary:
            _write(temporary, produce(), str(spec.where))
            parts = _publish(temporary / "entry", entry)
    return parts


@contextmanager
def _workspace(root: Path) -> Iterator[Path]:
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".part-", dir=root, ignore_cleanup_errors=True) as name:
            yield Path(name)
    except OSError as fault:
        raise DataError(
            f"cannot keep decoded images in {root}: {fault.strerror or fault}; HASHPRESS_CACHE names another folder"
        ) from fault


def _open(entry: Path) -> Parts | None:
    """Return what an entry holds, or None when it is absent or not what it says it is."""
    try:
        about = json.loads((entry / "about.json").read_text(encoding="utf-8"))
        parts = {}
        for name, digest in about["digests"].items():
            pixels = np.load(entry / f"{name}.npy", mmap_mode="c", allow_pickle=False)  # torch wants it writable
            labels = np.load(entry / f"{name}-labels.npy", allow_pickle=False)
            parts[name] = Images(pixels, labels)
            if parts[name].digest != digest:
                return None
        return Parts(parts["train"], parts.get("test"), tuple(about["classes"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, DataError):
        return None


def _publish(made: Path, entry: Path) -> Parts:
    """Move a finished entry into its place, unless another process was faster; return it opened."""
    try:
        made.rename(entry)
    except OSError:  # the place is taken: by an equal entry, or by a damaged one
        if (parts := _open(entry)) is not None:
            return parts
        entry.rename(made.with_name("damaged"))
        made.rename(entry)
    parts = _open(entry)
    if parts is None:
        raise OSError(f"{entry} does not read back as written")
    return parts


def _write(folder: Path, items: Iterable[tuple[str, np.ndarray]], where: str) -> None:
    """Write an entry into ``folder/entry``; memory is bounded by one block of images."""
    names: list[str] = []
    stream = folder / "stream"
    shape: tuple[int, ...] = ()
    with stream.open("wb") as handle:
        for name, pixels in items:
            if names and pixels.shape != shape:
                raise _mixed(names[0], shape, name, pixels.shape)
            shape = pixels.shape
            names.append(name)
            handle.write(np.ascontiguousarray(pixels).data)
    layout = arrange(names, where)
    decoded = np.memmap(stream, np.uint8, "r", shape=(len(names), *shape))
    sequence = np.argsort(np.array(names), kind="stable")
    test = "test" if len(layout.indices("test")) else "val"  # with both, val stays unused
    entry = folder / "entry"
    entry.mkdir()
    digests = {}
    for name, members in (("train", layout.indices("train")), ("test", layout.indices(test))):
        chosen = sequence[np.isin(sequence, members)]
        if len(chosen):
            digests[name] = _write_part(entry, name, decoded, layout.label, chosen[shuffled(len(chosen))])
    if "train" not in digests:
        raise DataError(f"{where} has a {test} folder but no train folder")
    about = {"source": where, "classes": layout.classes, "digests": digests}
    (entry / "about.json").write_text(json.dumps(about), encoding="utf-8")


def _write_part(entry: Path, name: str, decoded: np.ndarray, labels: np.ndarray, chosen: np.ndarray) -> str:
    shape = (len(chosen), *decoded.shape[1:])
    pixels = np.lib.format.open_memmap(entry / f"{name}.npy", "w+", np.uint8, shape)
    for start in range(0, len(chosen), BLOCK):
        pixels[start : start + BLOCK] = decoded[chosen[start : start + BLOCK]]
    pixels.flush()
    np.save(entry / f"{name}-labels.npy", labels[chosen])
    return Images(pixels, labels[chosen]).digest


def _mixed(first: str, shape: tuple[int, ...], second: str, other: tuple[int, ...]) -> DataError:
    sizes = " and ".join(f"{name} ({size[2]}x{size[1]})" for name, size in ((first, shape), (second, other)))
    return DataError(f"images of different sizes: {sizes}; add ?size=32 (or another number) to resize all")
