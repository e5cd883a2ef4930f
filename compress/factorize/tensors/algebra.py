"""Tensor algebra of tensorly (Kossaifi et al. 2019, arXiv:1610.09555) on NumPy arrays.

tensorly computes with a backend that is global, and its own ``backend_context`` leaves one set for all threads. Here it
is NumPy during one call and in the calling thread alone. tensorly is imported by the first call, as it takes a while.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np


@contextmanager
def _backend(manager: Any, name: str) -> Iterator[None]:
    thread = manager._THREAD_LOCAL_DATA.__dict__  # noqa: SLF001  what is public cannot unset a thread's backend
    before = dict(thread)
    manager.set_backend(name, local_threadsafe=True)
    try:
        yield
    finally:
        thread.clear()
        thread.update(before)


def _on_numpy(module: str, name: str) -> Callable[..., np.ndarray]:
    def call(*args: Any, **options: Any) -> np.ndarray:
        function = getattr(import_module(module), name)
        arrays, products = import_module("tensorly.backend"), import_module("tensorly.tenalg")
        with _backend(arrays.BackendManager, "numpy"), _backend(products.TenalgBackendManager, "core"):
            return function(*args, **options)

    return call


unfold = _on_numpy("tensorly", "unfold")
cp_to_tensor = _on_numpy("tensorly", "cp_to_tensor")
mode_dot = _on_numpy("tensorly.tenalg", "mode_dot")
khatri_rao = _on_numpy("tensorly.tenalg", "khatri_rao")
