"""Damaged and hostile model files without end: cut, flipped, spliced, with other manifests; most with a right checksum."""

from __future__ import annotations

import hashlib
import json
import random
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

NUMBERS = (0, 1, -1, 2, 255, 256, 1 << 20, 1 << 31, 1 << 40, 1 << 63, 10**30, 0.5)


def damaged(files: Sequence[bytes], count: int, seed: int = 0) -> Iterator[bytes]:
    """Yield ``count`` damaged files, the same for the same seed."""
    rng = random.Random(seed)  # noqa: S311 - not for secrets
    for _ in range(count):
        content = rng.choice(files)
        yield rng.choice((cut, flipped, flipped, spliced, rewritten, rewritten, restreamed, reheaded))(
            content, files, rng
        )


def resigned(content: bytes) -> bytes:
    body = content[:-8]
    return body + hashlib.sha256(body).digest()[:8]


def cut(content: bytes, files: Sequence[bytes], rng: random.Random) -> bytes:
    short = content[: rng.randrange(len(content))]
    return resigned(short) if rng.random() < 0.7 and len(short) > 8 else short


def flipped(content: bytes, files: Sequence[bytes], rng: random.Random) -> bytes:
    changed = bytearray(content)
    start = int.from_bytes(content[:8], "little") + 8 if rng.random() < 0.8 else 0
    for _ in range(rng.choice((1, 1, 2, 8))):
        changed[rng.randrange(start, len(changed) - 8)] = rng.choice((rng.randrange(256), 0, 255, 128))
    return resigned(bytes(changed)) if rng.random() < 0.95 else bytes(changed)


def spliced(content: bytes, files: Sequence[bytes], rng: random.Random) -> bytes:
    other, changed = rng.choice(files), bytearray(content)
    size = rng.randrange(1, min(len(content), len(other), 400))
    at, source = rng.randrange(len(content) - size + 1), rng.randrange(len(other) - size + 1)
    changed[at : at + size] = other[source : source + size]
    return resigned(bytes(changed))


def parts(content: bytes) -> tuple[dict[str, Any], bytes, dict[str, Any], bytes]:
    """Return header, bytes of plain tensors, manifest and streams."""
    length = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:length])
    begin, end = (length + place for place in header["manifest"]["data_offsets"])
    return header, content[length:begin], json.loads(zlib.decompress(content[begin:end])), content[end:-8]


def joined(header: dict[str, Any], plain: bytes, manifest: bytes, streams: bytes) -> bytes:
    entries = {name: entry for name, entry in header.items() if name not in ("manifest", "streams", "check")}
    at = len(plain)
    for name, size in (("manifest", len(manifest)), ("streams", len(streams)), ("check", 8)):
        entries[name] = {"dtype": "U8", "shape": [size], "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return resigned(len(text).to_bytes(8, "little") + text + plain + manifest + streams + bytes(8))


def rewritten(content: bytes, files: Sequence[bytes], rng: random.Random) -> bytes:
    """Another manifest: a value that is something else, a key more or less, another order."""
    header, plain, manifest, streams = parts(content)
    for _ in range(rng.choice((1, 1, 2))):
        changed(manifest, rng, rng.choice(("edits", "coded", "coded", "edits", "all")))
    text = json.dumps(manifest, separators=(",", ":")).encode()
    if rng.random() < 0.05:
        text = text[: rng.randrange(len(text))]
    return joined(header, plain, zlib.compress(text), streams)


def changed(manifest: dict[str, Any], rng: random.Random, where: str) -> None:
    part: Any = manifest if where == "all" else manifest.get(where)
    while part and isinstance(part, dict | list):
        key = rng.choice(list(part)) if isinstance(part, dict) else rng.randrange(len(part))
        if isinstance(part[key], dict | list) and rng.random() < 0.9:
            part = part[key]
            continue
        old, what = part[key], rng.randrange(6)
        if what == 0:
            del part[key]
        elif what == 1 and isinstance(part, list):
            part.insert(key, old)
        elif what == 2 and isinstance(part, dict):
            part[f"{key}x"] = old
        elif what == 3 and isinstance(old, int):
            part[key] = old + rng.choice((-1, 1))
        elif what == 4 and isinstance(part, list):
            rng.shuffle(part)
        else:
            part[key] = rng.choice((*NUMBERS, "", "F32", "I64", "U8", [], {}, None, True))
        return


def restreamed(content: bytes, files: Sequence[bytes], rng: random.Random) -> bytes:
    """One stream that is another, with the sizes right."""
    header, plain, manifest, streams = parts(content)
    rows, at, pieces = manifest["coded"], 0, []
    for row in rows:
        pieces.append(streams[at : at + row[3]])
        at += row[3]
    if not rows:
        return flipped(content, files, rng)
    number = rng.randrange(len(rows))
    piece = bytearray(rng.choice(pieces) if rng.random() < 0.3 else pieces[number])
    for _ in range(rng.choice((0, 1, 1, 3))):
        if piece:
            piece[rng.randrange(min(len(piece), rng.choice((4, 16, 4096))))] = rng.randrange(256)
    if rng.random() < 0.2:
        piece = piece[: rng.randrange(len(piece) + 1)]
    pieces[number] = bytes(piece)
    rows[number][3], rows[number][4] = len(piece), 0
    return joined(header, plain, zlib.compress(json.dumps(manifest, separators=(",", ":")).encode()), b"".join(pieces))


def reheaded(content: bytes, files: Sequence[bytes], rng: random.Random) -> bytes:
    """Another header of the same length where possible."""
    length = int.from_bytes(content[:8], "little")
    text = bytearray(content[8 : 8 + length])
    at = rng.randrange(len(text))
    text[at] = rng.choice(b'0123456789"{}[],:\\ aF')
    return resigned(content[:8] + bytes(text) + content[8 + length :])
