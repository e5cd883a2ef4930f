"""The kernels there are, in order of preference, and which of them computes a node."""

from __future__ import annotations

from ...core.errors import TargetError
from ..table import Target
from .base import Kernel, Workload
from .conv import Conv
from .copy import StridedCopy
from .dense import Dense
from .grouped import GroupedConv
from .pointwise import Pointwise
from .pool import Pool

KERNELS: tuple[type[Kernel], ...] = (Conv, GroupedConv, Dense, Pool, Pointwise, StridedCopy)


def choose(work: Workload, target: Target) -> Kernel:
    """Return the first kernel of ``KERNELS`` that computes ``work`` on ``target``.

    Raises:
        TargetError: none does; the message has the reason of every kernel for this operator.
    """
    node = work.node
    for kernel in KERNELS:
        if kernel.mismatch(work, target) is None:
            return kernel.make(work, target)
    reasons = [kernel.mismatch(work, target) for kernel in KERNELS if kernel.op == node.kind]
    why = "; ".join(reason for reason in reasons if reason) or f"there are {', '.join(sorted({k.op for k in KERNELS}))}"
    raise TargetError(f"{node.name}: no kernel for {node.kind} ({why})")
