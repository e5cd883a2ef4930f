"""Damaged and hostile model files: one line of ModelFileError, no crash, no hang, no large allocation."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from damaged_files import CHANGES, TINY, refused, remade, signed
from hashpress.compress.passes import Prune, Share
from hashpress.core.errors import ModelFileError
from hashpress.hashnets.build import default_arch, untrained
from hashpress.modelfile import file, reader
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


@pytest.fixture(scope="module")
def tiny() -> bytes:
    arch = default_arch("lenet300", 4, TINY, widths=(6, 5))
    model = Share(bits=2)(Prune(density=0.4)(untrained(arch)))
    return b"".join(file.content(model))


def test_every_flipped_bit_is_found(tiny: bytes, tmp_path: Path) -> None:
    path = tmp_path / "flipped"
    for place in range(len(tiny) * 8):
        flipped = bytearray(tiny)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        with pytest.raises(ModelFileError):
            reader.checked(path)


def test_every_truncation_is_found(tiny: bytes, tmp_path: Path) -> None:
    path = tmp_path / "short"
    for length in range(len(tiny)):
        path.write_bytes(tiny[:length])
        with pytest.raises(ModelFileError):
            reader.checked(path)
    refused(path, tiny[: len(tiny) // 2])
    refused(path, tiny + b"\0")


def test_remade_without_change_loads(tiny: bytes, tmp_path: Path) -> None:
    (tmp_path / "same").write_bytes(remade(tiny, lambda _: None))
    first = file.load(tmp_path / "same").net.state_dict()
    (tmp_path / "tiny").write_bytes(tiny)
    second = file.load(tmp_path / "tiny").net.state_dict()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize("name", CHANGES)
def test_hostile_manifests(tiny: bytes, tmp_path: Path, name: str) -> None:
    change, message = CHANGES[name]
    content = remade(tiny, change)
    tracemalloc.start()
    path = tmp_path / "hostile"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=message) as caught:
        file.load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 << 20
    assert "\n" not in str(caught.value)
    refused(path, content)


HEADERS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "header"),
    "pickle": (b"\x80\x02}q\x00X\x05\x00\x00\x00hello." * 4, "not a safetensors file"),
    "announced": ((1 << 60).to_bytes(8, "little") + b"{}", "not a safetensors file"),
    "zeros": (bytes(4096), "JSON"),
    "foreign": (b"\x02" + bytes(7) + b"{}", "no key 'hashpress'"),
    "text": (b"\x0c" + bytes(7) + b'{"a": 1}    ', "no key 'hashpress'"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_files_of_others(tmp_path: Path, name: str) -> None:
    content, message = HEADERS[name]
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=message):
        file.load(path)


def test_folders_and_missing_files(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(ModelFileError, match="cannot read model file"):
            file.load(path)


def header(**entries: Any) -> bytes:
    text = json.dumps({"__metadata__": {"hashpress": "1"}, **entries}, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % 8)


def entry(begin: int, end: int, shape: list[Any] | None = None, dtype: str = "U8") -> dict[str, Any]:
    return {"dtype": dtype, "shape": [end - begin] if shape is None else shape, "data_offsets": [begin, end]}


def test_headers_that_lie(tmp_path: Path) -> None:
    path = tmp_path / "lie"
    body = bytes(16)
    good = {"manifest": entry(0, 8), "streams": entry(8, 16), "check": entry(16, 24)}
    lies = [
        {**good, "streams": entry(0, 8)},  # overlapping
        {**good, "streams": entry(9, 17)},  # a hole
        {**good, "check": entry(16, 25)},
        {**good, "manifest": entry(0, 8, [1 << 40, 1 << 40])},
        {**good, "manifest": entry(0, 8, [-8])},
        {**good, "manifest": entry(0, 8, ["8"])},
        {**good, "manifest": entry(0, 8, dtype="U9")},
        {**good, "manifest": entry(0, 8) | {"dtype": ["U8"]}},
        {**good, "manifest": entry(0, 8) | {"dtype": {"U8": 1}}},
        {"a": entry(0, 0, [0, 1 << 47]), **good},
        {"a": 3, **good},
        {"check": entry(0, 8), "manifest": entry(8, 16), "streams": entry(16, 24)},
        {},
    ]
    for lie in lies:
        refused(path, signed(header(**lie), body))
    other = header(**good).replace(b'"1"', b'"2"')
    assert "format '2'" in refused(path, signed(other, body))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_changed_streams_with_a_right_checksum(tiny: bytes, tmp_path: Path, data: st.DataObject) -> None:
    """Whoever knows the checksum can change streams: then load refuses or gives finite shapes, nothing else."""
    changed = bytearray(tiny)
    length = int.from_bytes(tiny[:8], "little")
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(8 + length, len(tiny) - 9))] = data.draw(st.integers(0, 255))
    content = bytes(changed[:-8])
    path = tmp_path / "changed"
    path.write_bytes(content + hashlib.sha256(content).digest()[:8])
    try:
        model = file.load(path)
        dense = reader.read_dense(path)
    except ModelFileError:
        return
    assert model.net.state_dict()["head.bias"].shape == (4,)
    assert all(isinstance(value, np.ndarray) for value in dense.values())


def test_a_header_that_only_differs_in_its_offsets(tiny: bytes, tmp_path: Path) -> None:
    """Everything else is right: another reader would take other bytes for the tensors."""
    length = int.from_bytes(tiny[:8], "little")
    text = tiny[8 : 8 + length]
    entries = json.loads(text)
    begin, end = entries["manifest"]["data_offsets"]
    lie = text.replace(f"[{begin},{end}]".encode(), f"[{begin},{end - 1}]".encode(), 1)
    for header_ in (lie.ljust(length), text.replace(b":", b": ", 1)):
        message = refused(tmp_path / "lie", signed(header_, tiny[8 + length : -8]))
        assert "the header does not describe the file" in message


def test_indices_outside_their_codebook(tmp_path: Path) -> None:
    arch = default_arch("lenet300", 4, TINY, widths=(6, 5))
    model = Share(bits=2)(untrained(arch))
    model.net.head.form.indices[1, 2] = len(model.net.head.form.codebook)
    file.save(model, tmp_path / "m")
    for read in (file.load, reader.read_dense):
        with pytest.raises(ModelFileError, match=r"head\.form\.indices: indices point outside their codebook"):
            read(tmp_path / "m")
