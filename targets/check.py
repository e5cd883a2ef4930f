"""The codes of a compiled library against torch's, before its bundle is put in its place, and the first layer that differs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..core.errors import DeviceError, TargetError
from .abi import WORKSPACE, itemsize
from .bundle import check_machine, open_bundle
from .codegen.plan import KernelCall, Plan
from .graph.export import ExportedNet
from .graph.graph import Graph
from .runtime import Runtime

ROUNDING = 1e-3  # of the largest value of a layer: what sums of float32 in another order never reach
TINY = float(np.finfo(np.float32).tiny)
STEPS = 5e-2  # the same where activations are rounded to integers: one on the edge is a whole step away


@dataclass(frozen=True)
class Lowered:
    """A network on its way to a library: torch's operators, ours, and the kernels for them."""

    exported: ExportedNet
    graph: Graph
    plan: Plan

    @property
    def tolerance(self) -> float:
        """The largest difference from torch, as a share of the largest value, that is rounding."""
        rounds = any(op.name == "round" for node in self.graph.nodes for op in node.epilogue)
        return STEPS if rounds else ROUNDING


def check_codes(path: str | os.PathLike[str], lowered: Lowered, golden: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Compute the golden codes of the bundle in ``path``, and return what its manifest says about them.

    That is ``device``, ``bits`` and ``differing`` (bits whose output is within rounding of zero), or ``device`` None and
    ``why``, where no machine at hand executes the library.

    Raises:
        TargetError: other codes than torch's, or outputs that no rounding explains; the first layer that differs is named.
    """
    try:
        check_machine(open_bundle(path))
    except TargetError as fault:
        return {"device": None, "why": str(fault).replace(os.fspath(path) + os.sep, "")}
    runtime, wanted = Runtime(path), golden["outputs"]
    found = runtime.outputs(images := runtime.normalise(golden["pixels"]))
    worst = np.abs(found - wanted).max(axis=1)
    number = int(worst.argmax()) if np.isfinite(worst).all() else int(np.flatnonzero(~np.isfinite(worst))[0])
    try:
        verified = runtime.verify()
    except DeviceError as fault:
        raise TargetError(_report(runtime, lowered, images[number], wanted[number], found[number])) from fault
    if not verified.worst <= lowered.tolerance * max(float(np.abs(wanted).max()), TINY):
        raise TargetError(_report(runtime, lowered, images[number], wanted[number], found[number]))
    return {"device": "local", "bits": verified.bits, "differing": verified.differing}


def _report(runtime: Runtime, lowered: Lowered, image: np.ndarray, wanted: np.ndarray, found: np.ndarray) -> str:
    bit = (
        int(np.abs(found - wanted).argmax())
        if np.isfinite(found).all()
        else int(np.flatnonzero(~np.isfinite(found))[0])
    )
    where = first_difference(runtime, lowered, image) or "no layer before them does"
    return (
        f"the compiled network does not compute what torch does: output {bit} is {found[bit]:.6g}, torch gives "
        f"{wanted[bit]:.6g}; {where}; nothing was written. This is a fault of the compiler: please report it"
    )


def first_difference(runtime: Runtime, lowered: Lowered, image: np.ndarray) -> str | None:
    """Return the first layer whose result for one normalised image (C, H, W) is not torch's, with both values, or None."""
    truth = lowered.exported.values(torch.from_numpy(image[None].copy()))
    for step, workspace in zip(lowered.plan.steps, runtime.trace(image), strict=True):
        source = lowered.graph.sources.get(step.output.name)
        if source is None or step.output.name not in lowered.plan.offsets:
            continue
        found, wanted = _activation(workspace, step, lowered.plan), truth[source].numpy()
        if found.size != wanted.size:
            continue
        difference = np.abs(found.ravel() - wanted.ravel())
        if not difference.max() <= lowered.tolerance * max(float(np.abs(wanted).max()), TINY):
            worst = int(np.where(np.isfinite(difference), difference, np.inf).argmax())
            place = ", ".join(str(int(index)) for index in np.unravel_index(worst, wanted.shape)[1:])
            layer = lowered.graph.layers.get(source, step.name)
            return (
                f"the first layer that differs is {layer} (step {step.name}): at [{place}] it gives {found.ravel()[worst]:.6g}, "
                f"torch gives {wanted.ravel()[worst]:.6g}"
            )
    return None


def _activation(workspace: np.ndarray, step: KernelCall, plan: Plan) -> np.ndarray:
    """Return the result of a step, (C, H, W), from its blocks in the workspace."""
    layout, start = step.kernel.output, plan.offsets[step.output.name] // itemsize(WORKSPACE.dtype)
    blocks = workspace[start : start + layout.size].reshape(layout.blocks, layout.rows, layout.columns, layout.block)
    above, left = layout.border
    inside = blocks[:, above : above + layout.height, left : left + layout.width]
    channels = layout.blocks * layout.block
    return inside.transpose(0, 3, 1, 2).reshape(channels, layout.height, layout.width)[: layout.channels].copy()
