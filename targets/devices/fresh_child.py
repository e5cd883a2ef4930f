"""Child process for memory measurement: opens a bundle, runs it, and prints its peak memory as JSON."""

from __future__ import annotations

import json
import sys
import time

sys.modules["torch"] = None  # type: ignore[assignment]  # tvm_ffi imports torch if it is installed; a device has none

from ..runtime import Runtime  # noqa: E402  # after torch is blocked
from .fresh import peak_bytes, resident_bytes, restart_peak  # noqa: E402


def main(bundle: str, runs: str, threads: str) -> None:
    """Print ``idle``, ``rss`` and ``network`` in bytes and ``open_ms`` as JSON."""
    imported = peak_bytes()
    restart_peak()  # importing may have needed more than what is resident now
    idle = resident_bytes()
    start = time.perf_counter()
    runtime = Runtime(bundle, threads=int(threads))
    opened = (time.perf_counter() - start) * 1e3
    for _ in range(int(runs)):
        runtime.verify()
    peak = peak_bytes()
    figures = {"idle": idle, "rss": max(imported, peak), "network": max(peak - idle, 0), "open_ms": opened}
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
