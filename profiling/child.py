"""The process in which peak memory is measured: it opens one bundle, runs it, and prints what it held, as JSON."""

from __future__ import annotations

import json
import sys
import time

from ..targets.runtime import Runtime
from .memory import peak_bytes


def main(bundle: str, runs: str, threads: str) -> None:
    """Print ``idle``, ``rss`` (bytes), ``open_ms`` and whether ``torch`` was imported."""
    idle = peak_bytes()
    start = time.perf_counter()
    runtime = Runtime(bundle, threads=int(threads))
    opened = (time.perf_counter() - start) * 1e3
    for _ in range(int(runs)):
        runtime.verify()
    found = {"idle": idle, "rss": peak_bytes(), "open_ms": opened, "torch": "torch" in sys.modules}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
