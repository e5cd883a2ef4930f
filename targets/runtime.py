"""Running a bundle: numpy and TVM's function interface, nothing else; torch is never imported.

Opening decodes the weights from the model file and packs them, once. A run is one call into the library.
"""

from __future__ import annotations

import itertools
import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import LifoQueue
from typing import Any

import numpy as np

from ..core.errors import DeviceError, InputError, ModelFileError, TargetError
from ..modelfile.reader import read_dense
from .abi import IMAGE, OUTPUTS, PACK, PARAMETERS, RUN, WORKSPACE, Argument, buffer_bytes, itemsize
from .bundle import GOLDEN, LIBRARY, MODEL, check_machine, open_bundle
from .ffi import aligned, load_library, tensor
from .verification import Verification

MARGIN = 1e-4  # a bit whose output is nearer to zero may differ between machines


class Runtime:
    """An open bundle, which several threads may use at once.

    Args:
        path: the bundle's directory.
        threads: how many images are computed at the same time; one image is always one thread's work. Calls from more
            threads of the caller's wait for each other.

    Raises:
        TargetError: the bundle is broken or for another machine.
    """

    def __init__(self, path: str | os.PathLike[str], threads: int = 1) -> None:
        if threads < 1:
            raise InputError(f"at least one thread is needed, got {threads}")
        self.bundle = open_bundle(path)
        check_machine(self.bundle)
        manifest = self.bundle.manifest
        self.bits = self.bundle.bits
        self.input_shape = self.bundle.input_shape
        self.steps: tuple[str, ...] = tuple(step["name"] for step in manifest["steps"])
        start = time.perf_counter()
        self._library = _load_library(self.bundle.path / LIBRARY)
        self._run = self._library["run"]
        loaded = time.perf_counter()
        state = self._decoded()
        decoded = time.perf_counter()
        self._sizes = buffer_bytes(manifest)
        self._parameters = self._buffer(PARAMETERS)
        self._pack(state)
        packed = time.perf_counter()
        self.opening_ms = {
            "library": (loaded - start) * 1e3,
            "decode": (decoded - loaded) * 1e3,
            "pack": (packed - decoded) * 1e3,
        }
        self.threads = threads
        self._free: LifoQueue[_ExecutionContext] = LifoQueue()
        for _ in range(threads):
            self._free.put(_ExecutionContext(self))

    def outputs(self, inputs: np.ndarray) -> np.ndarray:
        """Return the real outputs, float32 (N, bits), of normalised images, float32 (N, C, H, W).

        Raises:
            InputError: another shape or type.
        """
        if inputs.dtype != np.float32 or inputs.shape[1:] != self.input_shape:
            raise InputError(
                f"the bundle takes float32 images of shape {self.input_shape}, found {inputs.dtype} {inputs.shape[1:]}"
            )
        values = np.empty((len(inputs), self.bits), dtype=np.float32)
        if self.threads == 1 or len(inputs) <= 1:
            self._compute(inputs, values)
            return values
        cuts = np.linspace(0, len(inputs), self.threads + 1).astype(int)
        with ThreadPoolExecutor(self.threads) as pool:
            parts = itertools.pairwise(cuts)
            for done in [pool.submit(self._compute, inputs[a:b], values[a:b]) for a, b in parts]:
                done.result()
        return values

    @contextmanager
    def _context(self) -> Iterator[_ExecutionContext]:
        """Lend memory to compute in: nobody else has it meanwhile."""
        context = self._free.get()
        try:
            yield context
        finally:
            self._free.put(context)

    def _compute(self, inputs: np.ndarray, values: np.ndarray) -> None:
        with self._context() as context:
            context.compute(inputs, values)

    def normalise(self, pixels: np.ndarray) -> np.ndarray:
        """Return uint8 ``pixels`` (N, C, H, W) as the float32 array that :meth:`outputs` takes.

        Raises:
            InputError: another shape or type.
        """
        if pixels.dtype != np.uint8 or pixels.shape[1:] != self.input_shape:
            raise InputError(
                f"the bundle takes uint8 images of shape {self.input_shape}, found {pixels.dtype} {pixels.shape[1:]}"
            )
        spec = self.bundle.manifest["input"]
        scale = np.array([1.0 / (255.0 * s) for s in spec["std"]], dtype=np.float32).reshape(1, -1, 1, 1)
        shift = np.array([-m / s for m, s in zip(spec["mean"], spec["std"], strict=True)], dtype=np.float32)
        return pixels.astype(np.float32) * scale + shift.reshape(1, -1, 1, 1)

    def encode(self, pixels: np.ndarray, batch: int = 500) -> np.ndarray:
        """Return packed codes, uint8 (N, ceil(bits / 8)), little bit order, bit k = ``output >= 0``.

        Raises:
            InputError: as :meth:`normalise`.
        """
        parts = [self.outputs(self.normalise(pixels[at : at + batch])) for at in range(0, len(pixels), batch)]
        values = np.concatenate(parts) if parts else np.empty((0, self.bits), dtype=np.float32)
        return np.packbits(values >= 0, axis=1, bitorder="little")

    def verify(self) -> Verification:
        """Compute the golden codes.

        Raises:
            DeviceError: a bit differs whose output in torch is not near zero.
        """
        with np.load(self.bundle.path / GOLDEN) as golden:
            pixels, wanted = golden["pixels"], golden["outputs"]
        found = self.outputs(self.normalise(pixels))
        differing = (wanted >= 0) != (found >= 0)
        wrong = int((differing & (np.abs(wanted) >= MARGIN)).sum())
        if wrong or np.isnan(found).any():
            raise DeviceError(
                f"{self.bundle.path}: {wrong} of {wanted.size} golden bits differ beyond a margin of {MARGIN}; "
                "the library computes something else on this machine"
            )
        return Verification(wanted.size, int(differing.sum()), float(np.abs(wanted - found).max()))

    def layer_times(self, inputs: np.ndarray, repeats: int = 10) -> dict[str, np.ndarray]:
        """Return milliseconds (repeats,) of every step for one normalised image (1, C, H, W), steps in their order.

        The steps run one after the other as in a whole run; each time includes one call from Python (about 0.4 us).
        """
        times = np.empty((len(self.steps), repeats))
        with self._context() as context:
            context.compute(np.ascontiguousarray(inputs[:1]), np.empty((1, self.bits), dtype=np.float32))
            for repeat in range(repeats):
                for number in range(len(self.steps)):
                    start = time.perf_counter_ns()
                    self._run(*context.arguments, number, number + 1)
                    times[number, repeat] = (time.perf_counter_ns() - start) / 1e6
        return dict(zip(self.steps, times, strict=True))

    def trace(self, image: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the workspace, float32, after every step for one normalised image (1, C, H, W); valid until the next."""
        with self._context() as context:
            context.image[:] = image.ravel()
            for number in range(len(self.steps)):
                self._run(*context.arguments, number, number + 1)
                yield context.workspace

    def _buffer(self, argument: Argument) -> np.ndarray:
        """Return memory of the size that the library wants for an argument of ``run``."""
        return aligned(self._sizes[argument.name] // itemsize(argument.dtype))

    def _decoded(self) -> dict[str, np.ndarray]:
        """Return the weights of the model file."""
        try:
            return read_dense(self.bundle.path / MODEL)
        except ModelFileError as fault:
            raise TargetError(f"the bundle's model file is broken: {fault}") from fault

    def _pack(self, state: dict[str, np.ndarray]) -> None:
        """Bring the weights of all steps into the order in which the kernels stream them."""
        pack, out = self._library["pack"], tensor(self._parameters)
        nothing = tensor(aligned(1))
        for number, step in enumerate(self.bundle.manifest["steps"]):
            if step["tensors"]:
                given = {role: tensor(self._tensor(state, *what)) for role, what in step["tensors"].items()}
                given |= {"step": number, PARAMETERS.name: out}
                pack(*(given.get(argument.name, nothing) for argument in PACK))

    def _tensor(self, state: dict[str, np.ndarray], name: str, shape: list[int]) -> np.ndarray:
        if name not in state or list(state[name].shape) != shape:
            found = list(state[name].shape) if name in state else "none"
            path = self.bundle.path / MODEL
            raise TargetError(f"{path}: the library takes {name} of shape {shape}, found {found}; compile it again")
        return np.require(state[name], np.float32, ["C", "A", "W"]).reshape(-1)


class _ExecutionContext:
    """Memory for computing one image at a time."""

    def __init__(self, runtime: Runtime) -> None:
        shared = {PARAMETERS.name: runtime._parameters}  # noqa: SLF001 - one value in two halves
        buffers = [argument for argument in RUN if argument.is_buffer]
        memory = {a.name: shared[a.name] if a.name in shared else runtime._buffer(a) for a in buffers}  # noqa: SLF001
        self.image, self.result, self.workspace = memory[IMAGE.name], memory[OUTPUTS.name], memory[WORKSPACE.name]
        self.arguments = tuple(tensor(memory[argument.name]) for argument in buffers)
        self.steps = len(runtime.steps)
        self.run = runtime._run  # noqa: SLF001

    def compute(self, inputs: np.ndarray, values: np.ndarray) -> None:
        """Write the outputs of ``inputs`` (N, C, H, W) to ``values`` (N, bits)."""
        for image, value in zip(inputs, values, strict=True):
            self.image[:] = image.ravel()
            self.run(*self.arguments, 0, self.steps)
            value[:] = self.result


def _load_library(path: Path) -> Any:
    """Load a library under a name of its own: the loader would answer a known path with what it read before."""
    with tempfile.TemporaryDirectory(prefix="hashpress-") as folder:
        link = Path(folder) / "lib.so"
        link.symlink_to(path.resolve())
        try:
            return load_library(str(link))
        except Exception as fault:  # the loader's own errors have no common type
            raise TargetError(f"{path} cannot be loaded: {str(fault).splitlines()[0]}") from fault
