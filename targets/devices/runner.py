"""How ``hashnet-run`` is called and what it answers: the one program that a bundle runs on a device.

hashnet-run MODEL --verify --json             the golden codes: bits, bits that differ, largest difference
hashnet-run MODEL --encode RAW -o CODES       uint8 pixels (N, C, H, W) to packed codes
hashnet-run MODEL --bench N [--layers] --json milliseconds of the median of N runs, of layers, of opening; peak memory
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...core.errors import DeviceError
from ..bundle import MODEL
from ..verification import Verification
from .connection import Finished, last_line, quote

RUNNER = "hashnet-run"
ILLEGAL = 132  # 128 + SIGILL, as shells report it


@dataclass(frozen=True)
class Bench:
    """What a run of ``--bench`` measured on the device; times in milliseconds, sizes in bytes."""

    runs: np.ndarray  # of each run; of the median one alone, where the program tells no more
    layers: dict[str, np.ndarray]  # by the name of the step
    open_ms: float
    peak_bytes: int


def verify_command() -> str:
    """Return the command that checks the golden codes."""
    return f"./{RUNNER} {quote(MODEL)} --verify --json"


def encode_command(raw: str, codes: str) -> str:
    """Return the command that computes codes of a file of raw pixels."""
    return f"./{RUNNER} {quote(MODEL)} --encode {quote(raw)} -o {quote(codes)}"


def bench_command(runs: int, *, layers: bool = False) -> str:
    """Return the command that measures; layers are timed in a process that times nothing else of interest."""
    return f"./{RUNNER} {quote(MODEL)} --bench {runs}{' --layers' if layers else ''} --json"


def read_verification(done: Finished, where: str) -> Verification:
    """Return the answer to :func:`verify_command`.

    Raises:
        DeviceError: the program failed, or answered something else.
    """
    value = _answer(done, where)
    try:
        return Verification(int(value["golden_bits"]), int(value["differing"]), float(value["worst"]))
    except (KeyError, TypeError, ValueError) as fault:
        raise _strange(where, value) from fault


def read_bench(done: Finished, where: str) -> Bench:
    """Return the answer to :func:`bench_command`.

    Raises:
        DeviceError: the program failed, or answered something else.
    """
    value = _answer(done, where)
    try:
        layers = {name: np.array([float(ms)]) for name, ms in value.get("layers", ())}
        runs = np.asarray(value.get("runs_ms") or [value["median_ms"]], dtype=np.float64)
        return Bench(runs, layers, float(value["open_ms"]), int(value["peak_bytes"]))
    except (KeyError, TypeError, ValueError) as fault:
        raise _strange(where, value) from fault


def check_success(done: Finished, where: str) -> None:
    """Check that the program ended well.

    Raises:
        DeviceError: it did not; the message has the reason it gave.
    """
    if done.code == ILLEGAL:
        raise DeviceError(
            f"{where}: {RUNNER} met an instruction that this processor does not have; compile for an older target"
        )
    if done.code:
        raise DeviceError(f"{where}: {last_line(done.err, f'{RUNNER} ended with code {done.code} and gave no reason')}")


def _answer(done: Finished, where: str) -> dict[str, Any]:
    check_success(done, where)
    try:
        value = json.loads(done.text)
    except ValueError as fault:
        raise _strange(where, done.text) from fault
    if not isinstance(value, dict):
        raise _strange(where, value)
    return value


def _strange(where: str, value: object) -> DeviceError:
    return DeviceError(
        f"{where}: {RUNNER} answered {str(value)[:80]!r}, which is not a measurement; compile the bundle again"
    )
