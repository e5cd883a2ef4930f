"""Memory of a bundle: planned activations and weights, and the peak resident set of a process that runs it.

- activations: the static memory plan for intermediate results, from the manifest (static)
- weights: bytes of all decoded weights in the layout of the network (static)
- packed: bytes of the weights packed in the layout of the kernels (static)
- rss: peak resident set (VmHWM) of a fresh process on the device that opens the bundle and runs it (measured)
- idle: resident set of that process before it opens the bundle: interpreter, numpy, TVM runtime (measured)
- network: peak resident set from opening the bundle on, less idle: what the network itself adds to a process (measured)
"""

from __future__ import annotations

from collections.abc import Mapping

from ..targets.devices.base import Footprint
from .report import Figure


def memory_figures(measured: Footprint | None, planned: Mapping[str, int]) -> dict[str, Figure]:
    """Return the figures ``memory.*`` from what a process took, if it was measured, and from the ``planned`` bytes by name."""
    figures = {f"memory.{name}": Figure(size, "B", "static") for name, size in planned.items()}
    if measured is not None:
        for name, size in (("network", measured.network), ("rss", measured.rss), ("idle", measured.idle)):
            if size is not None:
                figures[f"memory.{name}"] = Figure(size, "B", "measured")
    return figures
