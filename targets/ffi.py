"""TVM's function interface without torch: the package imports torch when it finds it, a second and 200 MB for nothing."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from .abi import ALIGNMENT

if "torch" in sys.modules:
    import tvm_ffi
else:
    sys.modules["torch"] = None  # type: ignore[assignment]  # makes `import torch` an ImportError, which tvm_ffi expects
    try:
        import tvm_ffi
    finally:
        del sys.modules["torch"]


def load_library(path: str) -> Any:
    """Return a shared library; its functions are items by name."""
    return tvm_ffi.load_module(path)


def tensor(array: np.ndarray) -> Any:
    """Return a view of ``array`` that library functions take."""
    return tvm_ffi.from_dlpack(array)


def aligned(count: int) -> np.ndarray:
    """Return zeros, float32 (count,) but at least one, that begin where the calling convention wants a buffer."""
    raw = np.zeros(4 * max(count, 1) + ALIGNMENT, dtype=np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + 4 * max(count, 1)].view(np.float32)
