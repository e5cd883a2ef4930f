"""What a device is: a machine that takes a bundle, computes codes with it, and measures the time it needs there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..bundle import Bundle
from ..verification import Verification


@dataclass(frozen=True)
class Footprint:
    """What a fresh process on the device takes to open a bundle and run it."""

    open_ms: float
    rss: int  # bytes, peak resident set
    idle: int | None = None  # bytes, resident set before the bundle is opened; None where the program begins by that
    network: int | None = None  # bytes, rss from opening the bundle on, less idle


class Deployment(Protocol):
    """A bundle on a device, ready to run; a context manager that cleans up on the device when it ends."""

    def __enter__(self) -> Deployment: ...

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None: ...

    def close(self) -> None:
        """Remove the job from the device; what a later one may use again stays."""

    @property
    def bundle(self) -> Bundle:
        """The bundle that was pushed."""

    def run(self, inputs: np.ndarray) -> np.ndarray:
        """Return the real outputs, float32 (N, bits), of normalised images, float32 (N, C, H, W).

        Raises:
            InputError: another shape or type.
            DeviceError: the device failed.
        """

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        """Return packed codes, uint8 (N, ceil(bits / 8)), of uint8 pixels (N, C, H, W); bit k is ``output[k] >= 0``.

        Raises:
            InputError: another shape or type.
            DeviceError: the device failed.
        """

    def verify(self) -> Verification:
        """Compute the bundle's golden codes.

        Raises:
            DeviceError: a code differs from torch's.
        """

    def bench(self, pixels: np.ndarray, runs: int, warmup: int = 0) -> np.ndarray:
        """Return milliseconds (runs,) of the whole network for one image, uint8 (1, C, H, W), timed on the device.

        The clock runs while the network computes and not while data travels to the device or pixels are normalised.
        """

    def bench_steps(self, pixels: np.ndarray, runs: int) -> dict[str, np.ndarray]:
        """Return milliseconds (runs,) of every step by name, in the order of the steps; timed one by one."""

    def footprint(self) -> Footprint:
        """Return opening time and peak memory of a process on the device that only opens the bundle and runs it.

        Raises:
            DeviceError: the process failed.
        """

    def pull(self, name: str) -> bytes:
        """Return a file of the bundle as it lies on the device.

        Raises:
            DeviceError: there is no such file, or it cannot be fetched.
        """


class Device(Protocol):
    """A machine that runs bundles; a frozen value made from ``KIND[:ADDRESS]``, which connects when it is used."""

    @property
    def name(self) -> str:
        """The device as :func:`parse_device` reads it and reports show it."""

    @property
    def kind(self) -> str:
        """The kind of evidence of its times: ``measured``, or ``emulated`` where the processor is not a real one."""

    def describe(self) -> Mapping[str, Any]:
        """Return processor, cores, features, system, clock, load, temperature and memory as JSON-able values; what cannot be read is None.

        Raises:
            DeviceError: the device cannot be reached.
        """

    def push(self, bundle: str | os.PathLike[str], *, threads: int = 1) -> Deployment:
        """Copy the bundle in a local directory to the device and open it there.

        Raises:
            TargetError: the bundle is broken or compiled for another machine.
            DeviceError: the device cannot be reached.
        """
