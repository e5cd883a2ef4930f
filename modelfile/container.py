"""Container of a model file: a canonical safetensors file with a manifest, coded streams and a checksum.

Layout: plain tensors, then ``manifest`` (zlib of JSON), ``streams`` (all coded tensors, concatenated) and ``check``, the
first eight bytes of the SHA-256 of everything before them. The same content has exactly one encoding. Needs no torch.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import ModelFileError
from ..core.files import atomic_write

FORMAT = 1
CHECK_BYTES = 8
MAX_MANIFEST = 1 << 24
MAX_AXES = 8
MANIFEST, STREAMS, CHECK = "manifest", "streams", "check"
DTYPES = {"F32": "<f4", "F16": "<f2", "F64": "<f8", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1", "U8": "|u1"}
DTYPES |= {"BOOL": "|b1"}


@dataclass(frozen=True)
class Container:
    """The parts of a model file."""

    manifest: dict[str, Any]
    plain: Mapping[str, np.ndarray]  # uncoded tensors, writable views of the buffer of the file
    streams: bytes
    header_bytes: int
    manifest_bytes: int


def write(path: str | os.PathLike[str], parts: Iterable[bytes | memoryview]) -> None:
    """Write the ``parts`` of a model file atomically.

    Raises:
        InputError: the file cannot be written.
    """
    with atomic_write(path) as handle:
        for part in parts:
            handle.write(part)


def content(manifest: Mapping[str, Any], plain: Mapping[str, np.ndarray], streams: bytes) -> list[bytes | memoryview]:
    """Return the bytes of a model file, in parts."""
    packed = zlib.compress(dump(manifest).encode("ascii"), 9)
    header = _header({name: (code_of(array), array.shape) for name, array in plain.items()}, len(packed), len(streams))
    parts = [header, *(_bytes(array) for array in plain.values()), packed, streams]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return [*parts, digest.digest()[:CHECK_BYTES]]


def _bytes(array: np.ndarray) -> bytes | memoryview:
    """Return the bytes of an array, without a copy if it is contiguous."""
    return np.ascontiguousarray(array).reshape(-1).data.cast("B") if array.size else b""


def read(path: str | os.PathLike[str]) -> Container:
    """Return the parts of a model file.

    Raises:
        ModelFileError: not a model file, damaged or of another version.
    """
    try:
        content = bytearray(Path(path).stat().st_size)
        with Path(path).open("rb") as handle:
            del content[handle.readinto(content) :]
    except OSError as fault:
        raise ModelFileError(f"cannot read model file {path}: {fault.strerror}") from fault
    try:
        return _parse(content)
    except ModelFileError as fault:
        raise ModelFileError(f"{path}: {fault}") from fault


def dump(value: Any) -> str:
    """Return compact ASCII JSON."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def code_of(array: np.ndarray) -> str:
    """Return the safetensors name of an array's dtype.

    Raises:
        ModelFileError: the dtype cannot be stored.
    """
    for code, dtype in DTYPES.items():
        if array.dtype == np.dtype(dtype):
            return code
    raise ModelFileError(f"tensors of type {array.dtype} cannot be stored (there are: {', '.join(DTYPES)})")


def _header(plain: Mapping[str, tuple[str, tuple[int, ...]]], manifest: int, streams: int) -> bytes:
    entries: dict[str, Any] = {"__metadata__": {"hashpress": str(FORMAT)}}
    offset = 0
    tails = ((MANIFEST, manifest), (STREAMS, streams), (CHECK, CHECK_BYTES))
    for name, (code, shape) in (*plain.items(), *((name, ("U8", (size,))) for name, size in tails)):
        end = offset + _size(code, shape)
        entries[name] = {"dtype": code, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = dump(entries).encode("ascii")
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _size(code: str, shape: tuple[int, ...]) -> int:
    size = np.dtype(DTYPES[code]).itemsize
    for side in shape:
        size *= side
    return size


def _parse(content: bytearray) -> Container:
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > len(content) - 8:
        raise ModelFileError(
            f"not a safetensors file: it has {len(content)} bytes and declares a header of {length} bytes"
        )
    header = parse_json(content[8 : 8 + length], "header")
    version = header.get("__metadata__", {}) if isinstance(header, dict) else {}
    version = version.get("hashpress") if isinstance(version, dict) else None
    if version is None:
        raise ModelFileError(
            "not a model file of hashpress (its metadata has no key 'hashpress'); convert a checkpoint with hashpress import"
        )
    if version != str(FORMAT):
        raise ModelFileError(f"model file of format {str(version)[:20]!r}, this hashpress reads format {FORMAT}")
    if hashlib.sha256(memoryview(content)[:-CHECK_BYTES]).digest()[:CHECK_BYTES] != content[-CHECK_BYTES:]:
        raise ModelFileError("damaged: the checksum does not match (incomplete download or changed bytes)")
    tensors = _tensors(header)
    if list(tensors)[-3:] != [MANIFEST, STREAMS, CHECK]:
        raise ModelFileError("the last tensors of a model file must be manifest, streams and check")
    plain = {name: entry for name, entry in tensors.items() if name not in (MANIFEST, STREAMS, CHECK)}
    sizes = [_size(*tensors[name]) for name in (MANIFEST, STREAMS)]
    total = sum(_size(*entry) for entry in tensors.values())
    if _header(plain, *sizes) != content[: 8 + length] or 8 + length + total != len(content):
        raise ModelFileError("the header does not describe the file: offsets, sizes or order are wrong")
    arrays, offset = {}, 8 + length
    for name, (code, shape) in plain.items():
        end = offset + _size(code, shape)
        count = (end - offset) // _size(code, ())
        arrays[name] = np.frombuffer(content, dtype=DTYPES[code], count=count, offset=offset)
        arrays[name] = arrays[name].reshape(shape)
        offset = end
    manifest = parse_json(_inflate(content[offset : offset + sizes[0]]), "manifest")
    streams = bytes(content[offset + sizes[0] : offset + sum(sizes)])
    return Container(manifest, arrays, streams, 8 + length, sizes[0])


def _tensors(header: dict[str, Any]) -> dict[str, tuple[str, tuple[int, ...]]]:
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        code, shape = (entry.get("dtype"), entry.get("shape")) if isinstance(entry, dict) else (None, None)
        if not isinstance(code, str) or code not in DTYPES or not isinstance(shape, list) or len(shape) > MAX_AXES:
            raise ModelFileError(f"header entry {name[:80]!r} is not a tensor of a known type")
        if not all(type(side) is int and 0 <= side < 1 << 48 for side in shape):
            raise ModelFileError(f"header entry {name[:80]!r} has an impossible shape")
        tensors[name] = (code, tuple(shape))
    return tensors


def _inflate(packed: bytes | bytearray) -> bytes:
    stream = zlib.decompressobj()
    try:
        text = stream.decompress(packed, MAX_MANIFEST)
    except zlib.error as fault:
        raise ModelFileError(f"the manifest cannot be unpacked: {fault}") from fault
    if not stream.eof or stream.unused_data:
        raise ModelFileError(f"the manifest is truncated, has trailing bytes or is larger than {MAX_MANIFEST} bytes")
    return text


def parse_json(text: bytes | bytearray, what: str) -> Any:
    """Return the JSON object in ``text``.

    Raises:
        ModelFileError: not a JSON object, or it contains NaN, an infinity or a duplicate key.
    """
    try:
        value = json.loads(text, parse_constant=_refuse, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as fault:
        raise ModelFileError(f"the {what} is not JSON: {str(fault)[:200]}") from fault
    if not isinstance(value, dict):
        raise ModelFileError(f"the {what} must be a JSON object, found {type(value).__name__}")
    return value


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not allowed")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("duplicate key")
    return value
