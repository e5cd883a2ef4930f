"""The machine that hashpress itself runs on, through the Python runtime."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.errors import DeviceError, InputError
from ..bundle import Bundle
from ..verification import Verification
from .base import Footprint
from .fresh import fresh_process
from .machine import describe

if TYPE_CHECKING:
    from ..runtime import Runtime


@dataclass(frozen=True)
class LocalDevice:
    """The machine itself; nothing is copied."""

    @classmethod
    def parse(cls, address: str) -> LocalDevice:
        """Return the device.

        Raises:
            InputError: an address, which this machine does not have.
        """
        if address:
            raise InputError(f"device local takes no address, found {address!r}")
        return cls()

    @property
    def name(self) -> str:
        """``local``."""
        return "local"

    @property
    def kind(self) -> str:
        """``measured``."""
        return "measured"

    def describe(self) -> dict[str, Any]:
        """Return processor, cores, system, clock and load."""
        return describe()

    def push(self, bundle: str | os.PathLike[str], *, threads: int = 1) -> LocalDeployment:
        """Open the bundle in a directory.

        Raises:
            TargetError: the bundle is broken or compiled for another machine.
        """
        from ..runtime import Runtime  # noqa: PLC0415  # loads TVM's runtime, which other devices do without

        return LocalDeployment(Runtime(bundle, threads=threads))


@dataclass(frozen=True)
class LocalDeployment:
    """A bundle opened by the Python runtime."""

    runtime: Runtime

    def __enter__(self) -> LocalDeployment:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None: ...

    def close(self) -> None:
        """Do nothing: nothing was copied."""

    @property
    def bundle(self) -> Bundle:
        """The open bundle."""
        return self.runtime.bundle

    def run(self, inputs: np.ndarray) -> np.ndarray:
        """See :meth:`Runtime.outputs`."""
        return self.runtime.outputs(inputs)

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        """See :meth:`Runtime.encode`."""
        return self.runtime.encode(pixels)

    def verify(self) -> Verification:
        """See :meth:`Runtime.verify`."""
        return self.runtime.verify()

    def bench(self, pixels: np.ndarray, runs: int, warmup: int = 0) -> np.ndarray:
        """Return milliseconds (runs,) of :meth:`run`, the call from Python included."""
        inputs = self.runtime.normalise(pixels[:1])
        for _ in range(warmup):
            self.runtime.outputs(inputs)
        times = np.empty(runs)
        for number in range(runs):
            start = time.perf_counter_ns()
            self.runtime.outputs(inputs)
            times[number] = (time.perf_counter_ns() - start) / 1e6
        return times

    def bench_steps(self, pixels: np.ndarray, runs: int) -> dict[str, np.ndarray]:
        """See :meth:`Runtime.layer_times`."""
        return self.runtime.layer_times(self.runtime.normalise(pixels[:1]), runs)

    def footprint(self) -> Footprint:
        """See :func:`.fresh.fresh_process`.

        Raises:
            DeviceError: the process failed.
        """
        return fresh_process(self.bundle.path, threads=self.runtime.threads)

    def pull(self, name: str) -> bytes:
        """Return a file of the bundle.

        Raises:
            DeviceError: there is no such file.
        """
        if name not in (*self.bundle.files, "manifest.json"):
            raise DeviceError(f"{self.bundle.path} has no file {name!r} (there are: {', '.join(self.bundle.files)})")
        return (self.bundle.path / name).read_bytes()
