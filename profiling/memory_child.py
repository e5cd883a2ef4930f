"""The process in which peak memory is measured: it opens one bundle, runs it, and prints what it held, as JSON."""

from __future__ import annotations

import json
import sys
import time

sys.modules["torch"] = None  # type: ignore[assignment]  # tvm_ffi imports torch where it is installed; a device has none

from ..targets.runtime import Runtime  # noqa: E402  after torch is barred
from .memory import peak_bytes  # noqa: E402


def main(bundle: str, runs: str, threads: str) -> None:
    """Print ``idle`` and ``rss`` (bytes) and ``open_ms``."""
    idle = peak_bytes()
    start = time.perf_counter()
    runtime = Runtime(bundle, threads=int(threads))
    opened = (time.perf_counter() - start) * 1e3
    for _ in range(int(runs)):
        runtime.verify()
    sys.stdout.write(json.dumps({"idle": idle, "rss": peak_bytes(), "open_ms": opened}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
