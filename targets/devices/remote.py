"""Bundles on devices that are reached through a shell: sent, checked against the processor, run by ``hashnet-run``."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import DeviceError, InputError, TargetError
from ...core.files import sha256_file
from ..bundle import MANIFEST, Bundle, elf_machine, missing_features, open_bundle
from ..verification import Verification
from .base import Footprint
from .connection import Transport, shell
from .qemu import QemuTransport
from .runner import (
    RUNNER,
    Bench,
    bench_command,
    check_success,
    encode_command,
    read_bench,
    read_verification,
    verify_command,
)
from .session import START_SECONDS, Session
from .survey import files_of, script, understand

_FOR_APPS = (".so", ".a", ".h")  # of a bundle, what an app links; hashnet-run needs none of it
JOB_SECONDS = 600.0
RUNS_ON = {"aarch64": ("aarch64", "armv7l"), "x86_64": ("x86_64", "i386")}  # 64-bit systems run 32-bit programs


@dataclass(frozen=True)
class RemoteDevice:
    """A device that a transport reaches."""

    transport: Transport

    @property
    def name(self) -> str:
        """The device as reports show it."""
        return self.transport.name

    @property
    def kind(self) -> str:
        """``emulated`` for qemu, else ``measured``."""
        return "emulated" if isinstance(self.transport, QemuTransport) else "measured"

    def describe(self) -> dict[str, Any]:
        """Return processor, cores, features, governor, clock, load, temperature and memory.

        Raises:
            DeviceError: the device cannot be reached.
        """
        about = understand(files_of(shell(self.transport, script()).text))
        return self.transport.describe(about) if isinstance(self.transport, QemuTransport) else about

    def push(self, bundle: str | os.PathLike[str], *, threads: int = 1) -> RemoteDeployment:
        """Send a bundle, after the processor was found to have what it needs.

        Raises:
            TargetError: the bundle is broken, holds no hashnet-run, or is for another processor.
            InputError: more than one thread.
            DeviceError: the device cannot be reached, is busy or full.
        """
        if threads != 1:
            raise InputError(
                f"device {self.name} computes one image at a time, in one thread; found --threads {threads}"
            )
        opened = open_bundle(bundle)
        if RUNNER not in opened.files:
            raise TargetError(
                f"{opened.path} has no {RUNNER}, the program that devices run; compile it again for the device's target"
            )
        machine = elf_machine(opened.path / RUNNER)
        self.transport.launcher(machine)
        check_fits(opened, machine, self.describe(), self.name)
        session = Session(self.transport)
        try:
            names = [name for name in (*opened.files, MANIFEST) if not name.endswith(_FOR_APPS)]
            files = {name: opened.path / name for name in names}
            session.put({name: (path, sha256_file(path), path.stat().st_size) for name, path in files.items()})
        except BaseException:
            session.close(keep=False)
            raise
        return RemoteDeployment(opened, session, machine)

    def clean(self) -> None:
        """Remove everything that hashpress keeps on the device.

        Raises:
            DeviceError: the device cannot be reached or is busy.
        """
        Session(self.transport).close(clean=True)


def check_fits(bundle: Bundle, machine: str, about: Mapping[str, Any], where: str) -> None:
    """Check that a described machine can run a bundle whose programs are for an ELF machine.

    Raises:
        TargetError: it is of another architecture, or lacks an instruction set.
    """
    arch = about.get("arch")
    if arch and machine not in RUNS_ON.get(arch, (arch,)):
        raise TargetError(f"{bundle.path} is for {machine}, {where} is {arch}; compile it for a target of {arch}")
    features = about.get("features")
    if not features or (arch and arch != machine):
        return  # hashnet-run itself asks the kernel before it calls the network
    if missing := missing_features(bundle, features):
        target = bundle.manifest["target"]["name"]
        raise TargetError(
            f"{bundle.path} is compiled for {target} and needs {', '.join(missing)}, which {where} ({about.get('cpu')}) does "
            "not have; compile it for an older target (hashpress ls targets)"
        )


@dataclass(frozen=True)
class RemoteDeployment:
    """A bundle on a device, until :meth:`close`; every call is a process of its own there."""

    bundle: Bundle
    session: Session
    machine: str

    def __enter__(self) -> RemoteDeployment:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self.session.close(keep=kind is None)

    def close(self) -> None:
        """End the job on the device."""
        self.session.close()

    def run(self, inputs: np.ndarray) -> np.ndarray:
        """Refuse: programs on devices give codes.

        Raises:
            InputError: always.
        """
        raise InputError(f"{self._where} gives codes of pixels, not outputs of {inputs.dtype} images; use encode")

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        """Return packed codes, uint8 (N, ceil(bits / 8)), of uint8 pixels (N, C, H, W).

        Raises:
            InputError: another shape or type.
            DeviceError: the device failed.
        """
        shape, width = self.bundle.input_shape, -(-self.bundle.bits // 8)
        if pixels.dtype != np.uint8 or pixels.shape[1:] != shape:
            raise InputError(f"the bundle takes uint8 images of shape {shape}, found {pixels.dtype} {pixels.shape[1:]}")
        if not len(pixels):
            return np.empty((0, width), np.uint8)
        with tempfile.TemporaryDirectory(prefix="hashpress-") as folder:
            raw = Path(folder) / "pixels.raw"
            np.ascontiguousarray(pixels).tofile(raw)
            seconds = START_SECONDS + pixels.nbytes / 200_000
            self.session.transport.send(raw, f"{self.session.job}/pixels.raw", seconds)
        done = self.session.run(encode_command("pixels.raw", "codes.bin"), self.machine, JOB_SECONDS)
        check_success(done, self._where)
        codes = np.frombuffer(self.session.fetch("codes.bin"), np.uint8)
        if codes.size != len(pixels) * width:
            raise DeviceError(f"{self._where}: {codes.size} bytes of codes came back, expected {len(pixels) * width}")
        return codes.reshape(len(pixels), width).copy()

    def verify(self) -> Verification:
        """Compute the bundle's golden codes there.

        Raises:
            DeviceError: a code differs from torch's.
        """
        return read_verification(self.session.run(verify_command(), self.machine, JOB_SECONDS), self._where)

    def bench(self, pixels: np.ndarray, runs: int, warmup: int = 0) -> np.ndarray:  # noqa: ARG002  # as the protocol asks
        """Return the milliseconds of the median of ``runs`` runs in a new process, for an image of the program's own."""
        return self._bench(runs).runs

    def bench_steps(self, pixels: np.ndarray, runs: int) -> dict[str, np.ndarray]:  # noqa: ARG002  # as the protocol asks
        """Return the milliseconds of the median of ``runs`` runs of every step by name, in a process of their own."""
        return self._bench(runs, layers=True).layers

    def footprint(self) -> Footprint:
        """Return the time to open the bundle and the peak memory of a process that opens it and runs it."""
        measured = self._bench(1)
        return Footprint(measured.open_ms, measured.peak_bytes)

    def pull(self, name: str) -> bytes:
        """Return a file of the bundle as it lies on the device.

        Raises:
            DeviceError: there is no such file, or it cannot be fetched.
        """
        if name not in (*self.bundle.files, MANIFEST):
            raise DeviceError(f"{self.bundle.path} has no file {name!r} (there are: {', '.join(self.bundle.files)})")
        return self.session.fetch(name)

    @property
    def _where(self) -> str:
        return self.session.transport.name

    def _bench(self, runs: int, *, layers: bool = False) -> Bench:
        done = self.session.run(bench_command(runs, layers=layers), self.machine, JOB_SECONDS)
        return read_bench(done, self._where)
