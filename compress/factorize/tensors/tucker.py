"""Tucker-2: a kernel (T, S, ...) as two bases of channels and a small core (Kim et al. 2016, arXiv:1511.06530)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ....core.errors import InputError
from .algebra import mode_dot, unfold


@dataclass(frozen=True)
class Tucker2:
    """``full = core x_0 outputs x_1 inputs``; both bases have orthonormal columns."""

    core: np.ndarray  # (t, s, ...)
    outputs: np.ndarray  # (T, t)
    inputs: np.ndarray  # (S, s)

    def full(self) -> np.ndarray:
        """Return the kernel (T, S, ...)."""
        return np.einsum("ts...,Tt,Ss->TS...", self.core, self.outputs, self.inputs, optimize=True)


def spectra(kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the singular values of the unfoldings along outputs and inputs."""
    both = (np.linalg.svd(_gram(kernel, mode), compute_uv=False, hermitian=True) for mode in (0, 1))
    first, second = (np.sqrt(np.maximum(values, 0.0)) for values in both)
    return first, second


def tucker2(kernel: np.ndarray, ranks: tuple[int, int], *, sweeps: int = 30, tol: float = 1e-10) -> Tucker2:
    """Return the fit of higher-order orthogonal iteration, started from the truncated HOSVD.

    Raises:
        InputError: ranks below 1 or above the number of channels.
    """
    kernel = np.asarray(kernel, dtype=np.float64)
    if not all(1 <= rank <= size for rank, size in zip(ranks, kernel.shape, strict=False)):
        raise InputError(f"Tucker ranks must be 1 to {kernel.shape[:2]}, got {ranks}")
    outputs, inputs = (_basis(kernel, mode, rank) for mode, rank in enumerate(ranks))
    kept = 0.0
    for _ in range(sweeps):
        outputs = _basis(mode_dot(kernel, inputs, 1, transpose=True), 0, ranks[0])
        partial = mode_dot(kernel, outputs, 0, transpose=True)
        inputs = _basis(partial, 1, ranks[1])
        core = mode_dot(partial, inputs, 1, transpose=True)
        energy = float(np.vdot(core, core))
        if energy - kept <= tol * energy:
            break
        kept = energy
    return Tucker2(core, outputs, inputs)


def _gram(kernel: np.ndarray, mode: int) -> np.ndarray:
    unfolded = unfold(kernel, mode)
    return unfolded @ unfolded.T


def _basis(kernel: np.ndarray, mode: int, rank: int) -> np.ndarray:
    """Return the leading left singular vectors of an unfolding, (I, rank)."""
    _, vectors = np.linalg.eigh(_gram(kernel, mode))
    return vectors[:, ::-1][:, :rank]
