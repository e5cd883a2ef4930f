"""CIFAR-10's own files: python batches (pickles, read without running anything in them) and binary batches."""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, ClassVar

import numpy as np

from ..errors import DataError

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
ROW = 3 * 32 * 32
_BATCH = re.compile(r"(?:data_batch_[1-5]|test_batch)(?:\.bin)?")


def is_batch(name: str) -> bool:
    """Whether a file of this name is one of the six batches."""
    return _BATCH.fullmatch(PurePosixPath(name).name) is not None


def read_batch(data: bytes, name: str, root: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """Yield the images (3, 32, 32) of a batch under the names that class folders would give them.

    ``root`` is the folder or archive that errors speak of.

    Raises:
        DataError: it is not a batch of CIFAR-10.
    """
    stem = PurePosixPath(name).name
    if root:
        name = f"{name} in {root}"
    labels, pixels = _binary(data, name) if stem.endswith(".bin") else _python(data, name)
    if len(labels) != len(pixels) or not len(labels) or labels.min() < 0 or labels.max() >= len(CLASSES):
        raise DataError(f"{name} has {len(pixels)} images and {len(labels)} labels, expected labels 0 to 9")
    part = "test" if stem.startswith("test") else "train"
    for index, (label, image) in enumerate(zip(labels, pixels, strict=True)):
        yield f"{part}/{CLASSES[label]}/{stem}-{index:05}", image.reshape(3, 32, 32)


def _binary(data: bytes, name: str) -> tuple[np.ndarray, np.ndarray]:
    if len(data) % (1 + ROW):
        raise DataError(f"{name} has {len(data):,} bytes, not a multiple of {1 + ROW}: not a whole batch of CIFAR-10")
    rows = np.frombuffer(data, np.uint8).reshape(-1, 1 + ROW)
    return rows[:, 0], rows[:, 1:]


def _python(data: bytes, name: str) -> tuple[np.ndarray, np.ndarray]:
    batch = read_pickle(data, name)
    if not isinstance(batch, dict):
        raise DataError(f"{name} holds a {type(batch).__name__}, expected the dict of a CIFAR-10 batch")
    fields = {key.decode("latin1") if isinstance(key, bytes) else key: value for key, value in batch.items()}
    pixels, labels = fields.get("data"), fields.get("labels")
    array = pixels.array() if isinstance(pixels, Array) else None
    if array is None or array.ndim != 2 or array.shape[1] != ROW:
        raise DataError(f"{name} has no uint8 array data (N, {ROW}): not a batch of CIFAR-10")
    if not isinstance(labels, list) or not all(type(label) is int and 0 <= label < 2**31 for label in labels):
        raise DataError(f"{name} has no list of labels: not a batch of CIFAR-10")
    return np.array(labels, dtype=np.int64), array


class Dtype:
    """Stands where a pickle says ``numpy.dtype``; only bytes are known."""

    def __init__(self, code: bytes | str, *_: object) -> None:
        if code not in (b"u1", "u1"):
            raise pickle.UnpicklingError("it holds an array of something else than bytes")

    def __setstate__(self, state: object) -> None:
        """Byte order and the like mean nothing for bytes."""


class Array:
    """Stands where a pickle says ``numpy.ndarray``: shape and bytes, given to numpy only after checks."""

    def __init__(self, *_: object) -> None:
        self.state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state

    def array(self) -> np.ndarray | None:
        """Return the uint8 array, or None when the state is not that of one."""
        match self.state:
            case (int(), tuple(shape), Dtype(), False | 0, bytes(data)) if all(type(size) is int for size in shape):
                return np.frombuffer(data, np.uint8).reshape(shape) if _fits(shape, len(data)) else None
        return None


def _fits(shape: tuple[int, ...], size: int) -> bool:
    return len(shape) == 2 and shape[0] >= 0 and shape[1] == ROW and shape[0] * shape[1] == size


def _latin1(text: str, *_: object) -> bytes:
    return text.encode("latin1")  # how python 3 writes bytes for python 2


_KNOWN: Mapping[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): Array,
    ("numpy._core.multiarray", "_reconstruct"): Array,
    ("numpy", "ndarray"): Array,
    ("numpy", "dtype"): Dtype,
    ("_codecs", "encode"): _latin1,
}
_OPCODES = (
    "PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 EMPTY_DICT EMPTY_LIST EMPTY_TUPLE "
    "TUPLE TUPLE1 TUPLE2 TUPLE3 SHORT_BINSTRING BINSTRING SHORT_BINBYTES BINBYTES SHORT_BINUNICODE BINUNICODE "
    "APPEND APPENDS SETITEM SETITEMS BINPUT LONG_BINPUT BINGET LONG_BINGET MEMOIZE GLOBAL STACK_GLOBAL REDUCE BUILD"
)
_Python = pickle._Unpickler  # type: ignore[attr-defined]  # noqa: SLF001  the C one allocates whatever a memo index asks


class _Reader(_Python):  # type: ignore[misc, valid-type]
    """An unpickler that knows the opcodes of plain data and of one array, and no class but the stand-ins above."""

    stack: list[Any]
    dispatch: ClassVar[dict[int, Any]] = {
        getattr(pickle, name)[0]: _Python.dispatch[getattr(pickle, name)[0]] for name in _OPCODES.split()
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"it asks for {f'{module}.{name}'!r}")
        return _KNOWN[module, name]

    def load_build(self) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], Array | Dtype):
            raise pickle.UnpicklingError("it sets the state of something that is no array")
        self.stack[-1].__setstate__(state)

    dispatch[pickle.BUILD[0]] = load_build


def read_pickle(data: bytes, name: str) -> object:
    """Return the plain data in a pickle, arrays as :class:`Array`.

    Raises:
        DataError: it is damaged, or holds anything else.
    """
    try:
        return _Reader(io.BytesIO(data), encoding="bytes").load()
    except Exception as fault:  # a damaged pickle raises whatever its opcodes run into
        raise DataError(f"{name} is not a pickle of plain data ({type(fault).__name__}: {fault})") from fault
