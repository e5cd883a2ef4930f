"""A process of its own that opens a bundle and runs it, without torch: its peak memory and the time it takes to open.

``ru_maxrss`` cannot be used: on Linux a child process inherits the peak of its parent.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...core.errors import DeviceError, TargetError
from .base import Footprint

_SECONDS = 300


def fresh_process(bundle: Path, runs: int = 3, threads: int = 1) -> Footprint:
    """Return memory and opening time, measured by :mod:`.fresh_child` in a process without torch.

    Raises:
        DeviceError: the process failed or timed out.
    """
    words = [str(bundle), str(runs), str(threads)]
    return Footprint(**module_answer("targets.devices.fresh_child", words, f"runs {bundle}", threads))


def module_answer(module: str, words: Sequence[str], what: str, threads: int, seconds: float = _SECONDS) -> Any:
    """Return the JSON that a module of hashpress prints when it is run with ``words`` in a process of its own.

    Raises:
        TargetError: a bundle is broken or for another machine, as the process said.
        DeviceError: the process failed otherwise, or ran longer than ``seconds``.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TVM_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", f"hashpress.{module}", *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=seconds, check=False)
    except subprocess.TimeoutExpired as fault:
        raise DeviceError(f"the process that {what} did not end within {seconds:.0f} s") from fault
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        wrong_bundle = last.startswith("hashpress.core.errors.TargetError: ")
        raise (TargetError if wrong_bundle else DeviceError)(f"the process that {what} failed: {last}")
    return json.loads(done.stdout)


def peak_bytes() -> int:
    """Return the peak resident set of this process in bytes."""
    found = _status("VmHWM")
    if found is not None:
        return found
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def resident_bytes() -> int:
    """Return the resident set of this process in bytes now; where the system does not tell, its peak."""
    found = _status("VmRSS")
    return peak_bytes() if found is None else found


def restart_peak() -> bool:
    """Set the peak resident set of this process to its resident set of now; False where the system cannot."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def _status(field: str) -> int | None:
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None
