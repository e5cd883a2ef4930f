"""The C reader of model files, built for tests: as a library that gives values, and with sanitizers as a program."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hashpress.targets.native.compiler import FLAGS, SOURCES, STRICT

READER = "base sha256 inflate json header manifest edits coder integers adaptive floats source forms weights hashed fastfood pq int8 check"
SANITIZED = ("-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def sources(*more: str) -> list[str]:
    return [str(SOURCES / f"{name}.c") for name in (*READER.split(), *more)]


def built(out: Path, name: str, *flags: str) -> Path:
    if not shutil.which("gcc"):
        pytest.skip("needs gcc")
    command = ["gcc", *FLAGS, *STRICT, *flags, f"-I{SOURCES}", "-o", str(out), *sources(name), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:2000]
    return out


def verdicts(program: Path, files: Iterable[bytes]) -> list[tuple[int, str]]:
    """Return the code and the reason for each file, all read by one process."""
    fed = b"".join(len(content).to_bytes(4, "little") + content for content in files)
    done = subprocess.run([str(program)], input=fed, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")[:4000]
    rows = (line.partition(" ") for line in done.stdout.decode(errors="replace").splitlines())
    return [(int(code), reason) for code, _, reason in rows]


class Probe:
    """Values as the C reader decodes them."""

    def __init__(self, path: Path) -> None:
        self.library = ctypes.CDLL(str(path))
        self.library.hashnet_probe_weight.restype = ctypes.c_int64

    def weight(self, content: bytes, name: str, count: int) -> np.ndarray | str:
        """Return the values of a tensor, or why there are none."""
        out, text = np.empty(max(count, 1), np.float32), ctypes.create_string_buffer(256)
        place, size = out.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(len(content))
        found = self.library.hashnet_probe_weight(content, size, name.encode(), place, ctypes.c_size_t(count), text)
        return out[:count] if found == count else f"{found} values: {text.value.decode()}"

    def stream(self, kind: str, shape: list[int], stream: bytes) -> np.ndarray | int:
        """Return the values of a stream, of floats their bits, or the code of the error."""
        count = int(np.prod(shape, dtype=object))
        out = np.zeros(max(count, 1), np.int64 if kind == "integers" else np.uint32)
        sides, place = (ctypes.c_uint64 * 8)(*shape), out.ctypes.data_as(ctypes.c_void_p)
        size, floats = ctypes.c_size_t(len(stream)), int(kind != "integers")
        code = self.library.hashnet_probe_stream(stream, size, floats, len(shape), sides, place)
        return code or out[:count]
