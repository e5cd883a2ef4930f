"""Model files as a hostile writer would make them, and what readers must answer."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hashpress.core.errors import ModelFileError
from hashpress.core.inputs import ImageInput
from hashpress.modelfile import container, file, reader

TINY = ImageInput((1, 4, 4), (0.5,), (0.25,))


def refused(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    for read in (file.load, reader.read_dense, reader.read_manifest, reader.sections):
        try:
            read(path)
        except ModelFileError as fault:
            text = str(fault)
            assert "\n" not in text
            assert len(text) < 600
        else:
            if read is file.load:
                pytest.fail("a bad file was loaded")
    return text


def signed(header: bytes, body: bytes) -> bytes:
    """Return a file whose checksum is right, as a hostile writer would make it."""
    content = len(header).to_bytes(8, "little") + header + body
    return content + hashlib.sha256(content).digest()[:8]


def remade(content: bytes, change: Callable[[dict[str, Any]], Any]) -> bytes:
    """Return the file with another manifest, everything else consistent."""
    length = int.from_bytes(content[:8], "little")
    sizes = json.loads(content[8 : 8 + length])["manifest"]["data_offsets"]
    start = 8 + length
    manifest = json.loads(zlib.decompress(content[start + sizes[0] : start + sizes[1]]))
    changed = change(manifest)
    manifest = manifest if changed is None else changed
    packed = manifest if isinstance(manifest, bytes) else zlib.compress(json.dumps(manifest).encode())
    streams = content[start + sizes[1] : -8]
    return signed(container._header({}, len(packed), len(streams))[8:], packed + streams)


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "wrong architecture": (lambda m: m["arch"].update(encoder="lenet5"), "lenet5|expected"),
    "unknown encoder": (lambda m: m["arch"].update(encoder="lenet301"), "lenet300"),
    "code": (lambda m: m["arch"].update(encoder="os:system"), "trust_code"),
    "more bits": (lambda m: m["arch"].update(bits=5), r"head\.\S+: expected"),
    "unknown input": (lambda m: m["arch"].update(input={"kind": "sound"}), "unknown kind of input"),
    "input without size": (lambda m: m["arch"].update(input={"kind": "vector", "mean": [], "std": []}), "needs size"),
    "vector for images": (lambda m: m["arch"]["input"].update(kind="vector"), "needs size"),
    "another input": (
        lambda m: m["arch"].update(input={"kind": "text", "tokeniser": "words", "vocabulary": ["a"], "length": 3}),
        "does not take text",
    ),
    "nested vocabulary": (
        lambda m: m["arch"].update(input={"kind": "text", "tokeniser": "words", "vocabulary": [["a"]], "length": 3}),
        "list of texts",
    ),
    "no bits": (lambda m: m["arch"].update(bits=0), "at least one bit"),
    "huge bits": (lambda m: m["arch"].update(bits=10**15), "expected|built|at most"),
    "bits as text": (lambda m: m["arch"].update(bits="4"), "bits of the architecture must be int"),
    "huge width": (lambda m: m["arch"]["options"].update(widths=[10**9, 10**9]), "expected|built|at most"),
    "odd option": (lambda m: m["arch"]["options"].update(depth=3), "no option"),
    "odd widths": (lambda m: m["arch"]["options"].update(widths="ab"), "widths|built"),
    "huge input": (lambda m: m["arch"]["input"].update(shape=[10**30]), "input shape"),
    "no arch": (lambda m: m.pop("arch") and None, "keys"),
    "list": (lambda m: [m], "must be a JSON object"),
    "null arch": (lambda m: m.update(arch=None), "architecture must have"),
    "edits no list": (lambda m: m.update(edits={}), "must be lists"),
    "unknown edit": (lambda m: m["edits"].append({"kind": "folder"}), "folded"),
    "edit of no layer": (lambda m: m["edits"].append({"kind": "pruned", "layers": ["x.y"]}), "no layer 'x.y'"),
    "edit twice": (lambda m: m["edits"].append(m["edits"][-1]), "expected"),
    "negative codebook": (lambda m: m["edits"][-1].update(entries=-1), "entries"),
    "huge codebook": (lambda m: m["edits"][-1].update(entries=10**12), "entries"),
    "NaN": (lambda m: zlib.compress(json.dumps(m).replace('"bits": 4', '"bits": NaN').encode()), "NaN is not allowed"),
    "key twice": (
        lambda m: zlib.compress(json.dumps(m).replace('"arch"', '"arch": 1, "arch"', 1).encode()),
        "duplicate key",
    ),
    "deep": (lambda _: zlib.compress(b'{"a":' * 200_000), "JSON"),
    "bomb": (lambda _: zlib.compress(b" " * (1 << 28)), "larger than"),
    "no zlib": (lambda _: b"manifest", "unpacked"),
    "trailing": (lambda m: zlib.compress(json.dumps(m).encode()) + b"x", "trailing bytes"),
    "row short": (lambda m: m["coded"][0].pop() and None, "list of 5"),
    "row size": (lambda m: m["coded"][0].__setitem__(3, m["coded"][0][3] + 1), "add up"),
    "row negative": (lambda m: m["coded"][0].__setitem__(3, -1), "impossible size"),
    "row float": (lambda m: m["coded"][0].__setitem__(3, 1.5), "impossible size"),
    "row huge": (lambda m: m["coded"][0].__setitem__(2, [10**6, 10**6]), "declared"),
    "row huge exponent": (lambda m: m["coded"][0].__setitem__(2, [10**300]), "impossible size"),
    "row type": (lambda m: m["coded"][0].__setitem__(1, "F99"), "needs a name, a dtype and a shape"),
    "row type list": (lambda m: m["coded"][0].__setitem__(1, ["F32"]), "needs a name, a dtype and a shape"),
    "row type table": (lambda m: m["coded"][0].__setitem__(1, {"F32": 1}), "needs a name, a dtype and a shape"),
    "row name": (lambda m: m["coded"][0].__setitem__(0, m["coded"][1][0]), "twice"),
    "row other name": (lambda m: m["coded"][0].__setitem__(0, "nobody"), "no such tensor"),
    "row order": (lambda m: m["coded"].reverse(), "stream|expected|hold"),
    "history": (lambda m: m["history"].append({"nome": "x"}), "history"),
    "history type": (lambda m: m["history"].append({"name": "x", "seed": "y"}), "history"),
}
