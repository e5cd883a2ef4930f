"""Small networks and the whole path through the compiler, for the tests of targets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import tvm_ffi
from hashpress.targets.abi import ROLES
from hashpress.targets.codegen.codegen import generate_library
from hashpress.targets.codegen.plan import Plan, plan
from hashpress.targets.codegen.program import generate
from hashpress.targets.graph.export import export
from hashpress.targets.graph.fuse import fuse
from hashpress.targets.graph.import_relax import import_relax
from hashpress.targets.table import Target
from torch import nn


def aligned(count: int, value: float = 0.0) -> np.ndarray:
    raw = np.zeros(4 * count + 64, dtype=np.uint8)
    start = -raw.ctypes.data % 64
    array = raw[start : start + 4 * count].view(np.float32)
    array[:] = value
    return array


class Compiled:
    """A network compiled without a bundle; memory begins as NaN, so that whatever is not written shows."""

    def __init__(self, net: nn.Module, shape: tuple[int, ...], target: Target, folder: Path) -> None:
        self.plan: Plan = plan(fuse(import_relax(export(net, shape))), target)
        path = folder / "lib.so"
        generate_library(generate(self.plan, target), target, path)
        self.library = tvm_ffi.load_module(str(path))
        parameters = aligned(max(self.plan.packed, 1), np.nan)
        state = {name: value.numpy().astype(np.float32).reshape(-1) for name, value in net.state_dict().items()}
        nothing = aligned(1, np.nan)
        for number, step in enumerate(self.plan.steps):
            if step.parameters:
                given = {role: state[tensor.name] for role, tensor in step.parameters.items()}
                tensors = [tvm_ffi.from_dlpack(given.get(role, nothing)) for role in ROLES]
                self.library["pack"](number, *tensors, tvm_ffi.from_dlpack(parameters))
        self.image, self.result = aligned(int(np.prod(shape))), aligned(self.plan.output.size)
        self.workspace = aligned(self.plan.workspace_bytes // 4, np.nan)
        self.memory = [self.image, self.result, self.workspace, parameters]

    def __call__(self, image: torch.Tensor) -> np.ndarray:
        self.image[:] = image.numpy().ravel()
        self.library["run"](*map(tvm_ffi.from_dlpack, self.memory), 0, len(self.plan.steps))
        return self.result.copy()


def settled(net: nn.Module, seed: int = 0) -> nn.Module:
    """The network in evaluation mode, with batch norms that do something."""
    generator = torch.Generator().manual_seed(seed)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm1d):
            layer.running_mean = torch.randn(layer.num_features, generator=generator)
            layer.running_var = torch.rand(layer.num_features, generator=generator) + 0.5
            layer.weight.data = torch.rand(layer.num_features, generator=generator) + 0.5
            layer.bias.data = torch.randn(layer.num_features, generator=generator)
    return net.eval()


def difference(net: nn.Module, shape: tuple[int, ...], target: Target, folder: Path, seed: int = 0) -> float:
    """The largest difference from torch in float64, relative to the largest output."""
    image = torch.randn(1, *shape, generator=torch.Generator().manual_seed(seed))
    found = Compiled(net, shape, target, folder)(image)
    with torch.no_grad():
        wanted = net.double()(image.double()).numpy().ravel()
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())
