"""Memory of a bundle, four numbers that are often confused.

- activations: the compiler's static plan for intermediate results, from the manifest (static)
- weights: bytes of all weights as decoded, in the network's own layout (static)
- packed: bytes of the weights once more in the layout the kernels read (static)
- rss: peak resident set (VmHWM) of a fresh process that opens the bundle and runs it; with it `idle`, what the same
  process held before it opened the bundle: interpreter, numpy and the TVM runtime (measured)

``ru_maxrss`` would be wrong here: Linux hands a child the peak of the process that started it.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from ..core.errors import DeviceError
from .report import Figure

_SECONDS = 300


def fresh_process(bundle: Path, runs: int = 3, threads: int = 1) -> dict[str, Any]:
    """Return what :mod:`.child` found in a process of its own, without torch: ``rss``, ``idle`` (bytes), ``open_ms``.

    Raises:
        DeviceError: the process failed or did not end.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TVM_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", "hashpress.profiling.memory_child", str(bundle), str(runs), str(threads)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired as fault:
        raise DeviceError(f"the process that runs {bundle} did not end within {_SECONDS} s") from fault
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise DeviceError(f"the process that runs {bundle} failed: {last}")
    return dict(json.loads(done.stdout))


def memory_figures(found: dict[str, Any], planned: dict[str, int]) -> dict[str, Figure]:
    """Return the measured figures of :func:`fresh_process` and the ``planned`` ones by name."""
    figures = {f"memory.{name}": Figure(size, "B", "static") for name, size in planned.items()}
    for name in ("rss", "idle"):
        figures[f"memory.{name}"] = Figure(found[name], "B", "measured")
    return figures


def peak_bytes() -> int:
    """Return the peak resident set of this process since its last exec."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
