"""Outputs of commands: refused before the work starts if they would destroy an input or a file of another kind."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path

from .errors import InputError

Inputs = Iterable[tuple[str, str | os.PathLike[str] | None]]  # what each is to the command, and where it is
HEAD = 1 << 16  # bytes of a file that tell its kind
LARGEST_JSON = 1 << 28
MODEL, CHECKPOINT, BUNDLE, REPORT = "a model file", "a training checkpoint", "a bundle", "a report"
EVALUATION, SENSITIVITY, PAGE, CODES = "an evaluation", "a sensitivity table", "a report page", "an array of codes"
ONNX, PLOT = "an ONNX model", "a plot"
GENERATOR, FOOTER = b'<meta name="generator" content="hashpress', b"<footer>hashpress "  # of pages; the older ones
PLOTS = (b"\x89PNG\r\n\x1a\n", b"%PDF-", b"<?xml", b"<svg")
BUNDLE_KEYS = {"format", "target", "files", "steps", "tools"}  # of its manifest, besides others
JSON_KEYS = {REPORT: {"format", "figures", "target"}, EVALUATION: {"symmetric"}, SENSITIVITY: {"points", "images"}}


def check_output(
    path: str | os.PathLike[str],
    kind: str,
    inputs: Inputs,
    *,
    force: bool = False,
    option: str = "-o",
) -> None:
    """Check that a command may write ``path``, a file or bundle of ``kind``, without destroying anything else.

    ``inputs`` are the files and folders that the command reads, by what they are to it; they are never overwritten. What
    else is at ``path`` is replaced if it is of the same ``kind`` or empty, or with ``force``; folders and devices never are.

    Raises:
        InputError: the output is an input or a part of one, something of another kind, or cannot be written.
    """
    path = Path(path)
    _check_place(path, kind, option)
    _check_inputs(path, inputs, option)
    if not os.path.lexists(path) or not path.exists():
        return
    found = kind_of(path)
    if found in (kind, "") or (force and not (path.is_dir() and found != BUNDLE)):
        return
    if path.is_dir():
        raise InputError(
            f"{option} {path} is a folder and no whole bundle with nothing else in it; name another place"
            if kind == BUNDLE
            else f"{option} {path} is a folder; give a file in it"
        )
    raise InputError(f"{option} {path} holds {found}, and this would write {kind}; name another file, or add --force")


def check_side_files(output: Path, suffixes: Iterable[str], inputs: Inputs) -> None:
    """Check that none of the files ``OUTPUT.SUFFIX``, which are written next to ``output``, is an input.

    Raises:
        InputError: one is.
    """
    for suffix in suffixes:
        beside = output.with_name(f"{output.name}.{suffix}")
        for what, given in inputs:
            if given is not None and beside.exists() and Path(given).exists() and beside.samefile(given):
                raise InputError(
                    f"-o {output} also writes {beside.name}, which is the {what} that is read, and would be lost; name "
                    "another output, or copy the file first"
                )


def _check_inputs(path: Path, inputs: Inputs, option: str) -> None:
    place = path.resolve()
    for folder in place.parents:
        if (folder / "manifest.json").is_file() and kind_of(folder) == BUNDLE:
            raise InputError(
                f"{option} {path} lies in the bundle {folder}, which would no longer be whole; name another"
            )
    for what, given in inputs:
        if given is None or not (source := Path(given)).exists():
            continue
        if path.exists() and path.samefile(source):
            also = "" if str(path) == str(source) else f" ({source})"
            raise InputError(f"{option} {path} is the {what}{also} that is read, and would be lost; name another file")
        origin = source.resolve()
        if source.is_dir() and path.exists() and place.is_relative_to(origin) and place.is_file():
            raise InputError(f"{option} {path} is a file of the {what} {source} that is read; name a file elsewhere")
        if path.is_dir() and origin.is_relative_to(place):
            raise InputError(f"{option} {path} is a folder with the {what} {source} in it, which is read; name another")


def _check_place(path: Path, kind: str, option: str) -> None:
    """Check that the parent is a folder that can be written, and ``path`` no device or pipe."""
    folder = path.parent
    try:
        found = path.stat().st_mode if path.exists() else None
    except OSError as fault:
        raise InputError(f"{option} {path}: {fault.strerror}; name another place") from fault
    if found is not None and stat.S_ISDIR(found) and kind != BUNDLE:
        raise InputError(f"{option} {path} is a folder; give a file in it")
    if found is not None and not (stat.S_ISREG(found) or stat.S_ISDIR(found)):
        raise InputError(f"{option} {path} is a device or a pipe; name a file, which is written whole or not at all")
    if not folder.is_dir():
        raise InputError(f"{option} {path}: there is no folder {folder}; create it first")
    if not os.access(folder, os.W_OK):
        raise InputError(f"{option} {path}: the folder {folder} is not writable; choose another")


def kind_of(path: Path) -> str:
    """Return what is at an existing ``path``, in words; empty for an empty file or folder."""
    try:
        if path.is_dir():
            if not any(path.iterdir()):
                return ""
            return BUNDLE if _is_bundle(path) else "a folder"
        if not path.stat().st_size:
            return ""
        with path.open("rb") as handle:
            head = handle.read(HEAD)
    except OSError as fault:
        return f"a file that cannot be read ({fault.strerror})"
    return next((kind for kind, fits in KINDS.items() if fits(path, head)), "another file")


def _is_bundle(folder: Path) -> bool:
    """Return whether ``folder`` holds a bundle and nothing else."""
    manifest = _json(folder / "manifest.json")
    if not isinstance(manifest, dict) or not set(manifest) >= BUNDLE_KEYS or not isinstance(manifest["files"], dict):
        return False
    return {entry.name for entry in folder.iterdir()} <= {"manifest.json", *manifest["files"]}


def _safetensors(head: bytes) -> dict[str, str] | None:
    """Return the metadata of a safetensors file, None if it is another file."""
    if len(head) < 10 or head[8:9] != b"{":
        return None
    start = head.find(b'"__metadata__":')
    if start < 0:
        return {}
    try:
        found, _ = json.JSONDecoder().raw_decode(head[start + len(b'"__metadata__":') :].decode("utf-8", "replace"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _is_of_hashpress(path: Path, head: bytes) -> bool:  # noqa: ARG001  # as all entries of KINDS
    return "hashpress" in (_safetensors(head) or {})


def _is_checkpoint(path: Path, head: bytes) -> bool:  # noqa: ARG001  # as all entries of KINDS
    return b'{"__metadata__":{"hashpress-training":' in head[:64]


def _has_keys(kind: str) -> Callable[[Path, bytes], bool]:
    def fits(path: Path, head: bytes) -> bool:
        value = _json(path) if head.lstrip()[:1] == b"{" else None
        return isinstance(value, dict) and JSON_KEYS[kind] <= set(value)

    return fits


def _json(path: Path) -> object:
    try:
        return json.loads(path.read_bytes()) if path.stat().st_size <= LARGEST_JSON else None
    except (OSError, ValueError, RecursionError):
        return None


def _is_page(path: Path, head: bytes) -> bool:
    return head.startswith(b"<!doctype html>") and (GENERATOR in head or FOOTER in path.read_bytes())


def _is_codes(path: Path, head: bytes) -> bool:  # noqa: ARG001  # as all entries of KINDS
    """Return whether an .npy file holds uint8 (N, bytes), as codes are."""
    shape = head[:256].partition(b"'shape': (")[2].partition(b")")[0]
    return head.startswith(b"\x93NUMPY") and b"'|u1'" in head[:256] and len(shape.split(b",")) == 2


def _is_onnx(path: Path, head: bytes) -> bool:
    return head[:1] == b"\x08" and path.suffix == ".onnx"  # protobuf: field 1, the version, comes first


KINDS: dict[str, Callable[[Path, bytes], bool]] = {
    MODEL: _is_of_hashpress,
    CHECKPOINT: _is_checkpoint,
    "a safetensors file of another program": lambda _, head: _safetensors(head) is not None,
    REPORT: _has_keys(REPORT),
    EVALUATION: _has_keys(EVALUATION),
    SENSITIVITY: _has_keys(SENSITIVITY),
    PAGE: _is_page,
    CODES: _is_codes,
    "a NumPy array that is no codes": lambda _, head: head.startswith(b"\x93NUMPY"),
    ONNX: _is_onnx,
    PLOT: lambda path, head: head.startswith(PLOTS) and path.suffix in (".svg", ".png", ".pdf"),
    "a checkpoint or an archive": lambda _, head: head.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x04")),
    "JSON of another kind": lambda _, head: head.lstrip()[:1] in (b"{", b"["),
}
