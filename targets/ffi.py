"""TVM's function interface without torch: the package imports torch when it finds it, a second and 200 MB for nothing."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

if "torch" in sys.modules:
    import tvm_ffi
else:
    sys.modules["torch"] = None  # type: ignore[assignment]  # makes `import torch` an ImportError, which tvm_ffi expects
    try:
        import tvm_ffi
    finally:
        del sys.modules["torch"]

CACHE_LINE = 64


def load_library(path: str) -> Any:
    """Return a shared library; its functions are items by name."""
    return tvm_ffi.load_module(path)


def tensor(array: np.ndarray) -> Any:
    """Return a view of ``array`` that library functions take."""
    return tvm_ffi.from_dlpack(array)


def aligned(count: int) -> np.ndarray:
    """Return zeros, float32 (count,), that begin at a cache line, which vector loads rely on."""
    raw = np.zeros(4 * max(count, 1) + CACHE_LINE, dtype=np.uint8)
    start = -raw.ctypes.data % CACHE_LINE
    return raw[start : start + 4 * max(count, 1)].view(np.float32)
