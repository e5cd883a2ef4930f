"""A fingerprint of how this machine computes, which none of the project's own code goes into.

Sums of floats depend on the processor and on the libraries' kernels. Two machines with the same fingerprint are taken to
train and decompose to the same bits: it hashes what small networks of the frozen shapes are after some steps of training
in plain torch, what LAPACK makes of fixed matrices, and the versions of the libraries.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.metadata import version

import numpy as np
import torch
from scipy import linalg
from torch import nn
from torch.nn import functional

LIBRARIES = ("torch", "numpy", "scipy", "scikit-learn")
STEPS, BATCH = 3, 128


@cache
def arithmetic() -> str:
    """Return SHA-256 in hexadecimal."""
    torch.set_num_threads(1)
    found = hashlib.sha256(" ".join(f"{name} {version(name)}" for name in LIBRARIES).encode())
    found.update(torch.backends.cpu.get_cpu_capability().encode())
    for values in (*_trained(_dense(), 8), *_trained(_conv(4), 8), *_trained(_conv(16), 16, half=True)):
        found.update(values.tobytes())
    for values in _decomposed():
        found.update(np.ascontiguousarray(values).tobytes())
    return found.hexdigest()


def _dense() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 16))


def _conv(places: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, padding=2), nn.MaxPool2d(3, 2, ceil_mode=True), nn.ReLU(),
        nn.Conv2d(16, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24), nn.ReLU(),
        nn.AvgPool2d(3, 2, ceil_mode=True), nn.Flatten(), nn.Linear(24 * places, 16),
    )  # fmt: skip


def _trained(net: nn.Sequential, side: int, *, half: bool = False) -> list[np.ndarray]:
    """Return the parameters after some steps, and outputs."""
    generator = np.random.default_rng(0)
    images = torch.from_numpy(generator.standard_normal((BATCH, 1, side, side), dtype=np.float32))
    wanted = torch.from_numpy(generator.standard_normal((BATCH, 16), dtype=np.float32))
    net.to(memory_format=torch.channels_last)
    with torch.no_grad():
        for value in net.parameters():
            value.copy_(torch.from_numpy(generator.standard_normal(value.shape, dtype=np.float32) * 0.1))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(STEPS):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            outputs = net(images).float()
        loss = functional.mse_loss(torch.tanh(outputs), wanted) + functional.cross_entropy(outputs, wanted.softmax(1))
        loss.backward()
        optimizer.step()
    net.eval()
    with torch.inference_mode():
        return [value.detach().numpy() for value in (*net.parameters(), net(images))]


def _decomposed() -> list[np.ndarray]:
    generator = np.random.default_rng(1)
    tall = generator.standard_normal((150, 100))
    square = tall.T @ tall + np.eye(100)
    single = tall.astype(np.float32)
    tensor = torch.from_numpy(square)
    return [
        square, single.T @ single, np.exp(single), np.tanh(single), np.log(np.abs(single)), np.power(np.abs(tall), 0.3),
        *np.linalg.svd(tall, full_matrices=False), *np.linalg.eigh(square), np.linalg.cholesky(square),
        np.linalg.solve(square, tall.T), np.linalg.lstsq(tall, tall[:, :3], rcond=None)[0],
        linalg.cho_solve(linalg.cho_factor(square), tall.T), *linalg.qr(tall, mode="economic"),
        torch.linalg.cholesky(tensor).numpy(), torch.linalg.inv(tensor).numpy(), torch.cholesky_inverse(tensor).numpy(),
        (tensor @ tensor).numpy(), torch.exp(torch.from_numpy(single)).numpy(),
    ]  # fmt: skip
