"""What a file is by its content, so that a picture or an ONNX model is called by its name and never opened as a pickle."""

from __future__ import annotations

import zipfile
from pathlib import Path

STARTS: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"%PDF", "a PDF document"),
    (b"\x89HDF", "an HDF5 file, as Keras saves weights"),
    (b"\x93NUMPY", "a NumPy array (.npy)"),
    (b"GGUF", "a GGUF model"),
    (b"\x7fELF", "a program or library"),
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
    (b"\xfd7zXZ", "an xz archive; unpack it first"),
    (b"BZh", "a bzip2 archive; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a zstandard archive; unpack it first"),
    (b"7z\xbc\xaf", "a 7z archive; unpack it first"),
    (b"Rar!", "a RAR archive; unpack it first"),
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself: git lfs pull"),
)
INSIDE = (
    (4, b"TFL3", "a TensorFlow Lite model"),
    (8, b"WEBP", "a WebP image"),
    (257, b"ustar", "a tar archive; unpack it first"),
)
PICKLE = b"\x80"
_ONNX_FIELDS = (0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42)  # what follows ir_version in a ModelProto


def content_of(path: Path) -> str | None:
    """Return what ``path`` is where that is no checkpoint of torch or safetensors, else None; nothing is unpickled."""
    with path.open("rb") as handle:
        start = handle.read(512)
    if not start:
        return "an empty file"
    for magic, name in STARTS:
        if start.startswith(magic):
            return name
    if start.startswith(b"PK"):
        return _zip(path)
    for place, magic, name in INSIDE:
        if start[place : place + len(magic)] == magic:
            return name
    if start.startswith((PICKLE, b"\x00")) or start[8:9] == b"{":
        return None
    if start[0] == 0x08 and start[1:2] < b"\x20" and len(start) > 2 and start[2] in _ONNX_FIELDS:
        return "an ONNX model; import takes the state dict of the torch network it was exported from"
    return _text(start)


def _zip(path: Path) -> str | None:
    """Return what a zip archive holds, None where it is torch's own."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, UnicodeError):
        return None  # cut off, which torch says more about
    if any(name.endswith("/constants.pkl") and "/" in name for name in names):
        return "a TorchScript archive; save its values: torch.save(torch.jit.load(FILE).state_dict(), ...)"
    if any(name.endswith("data.pkl") for name in names):
        return None
    if any("exported_program" in name or name.endswith("models/model.json") for name in names):
        return "a program of torch.export (.pt2); import takes the state dict of the network"
    if names and all(name.endswith(".npy") for name in names):
        return "a NumPy archive (.npz)"
    if any(name.endswith(".weights.h5") for name in names):
        return "a Keras model"
    first = f", its first entry {names[0][:60]!r}" if names else ""
    return f"a zip archive of {len(names)} entries{first}; unpack it first"


def _text(start: bytes) -> str | None:
    """Return what a text is, or what unknown bytes look like."""
    try:
        text = start.decode("ascii").lstrip().lower()
    except UnicodeDecodeError:
        return f"no file of torch or safetensors (it begins with the bytes {start[:4].hex(' ')})"
    if text.startswith(("<!doctype html", "<html")):
        return "a page of HTML: the download gave a page instead of the file"
    if text.startswith(("{", "[")):
        return "a JSON text"
    return "a text file" if text.isprintable() or "\n" in text else "no file of torch or safetensors"
