"""Child process of a latency measurement: opens bundles, runs them in turn, and prints what it measured as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.modules["torch"] = None  # type: ignore[assignment]  # tvm_ffi imports torch if it is installed; a device has none

from ..targets.devices.local import LocalDevice  # noqa: E402  # after torch is blocked
from .rounds import one_process  # noqa: E402


def main(given: str) -> None:
    """Print one row per bundle of the settings ``given`` as JSON."""
    settings = json.loads(given)
    bundles = [Path(bundle) for bundle in settings.pop("bundles")]
    sys.stdout.write(json.dumps(one_process(bundles, LocalDevice(), **settings)) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
