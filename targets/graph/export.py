"""From a hashing network to Relax: exported by torch, parameters as inputs, nothing baked in.

The compiled kernels depend on shapes alone; the values come from the model file when the bundle is opened.
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass

import torch
import tvm
from torch import nn
from tvm import relax
from tvm.relax.frontend.torch import from_exported_program

from ...core.errors import TargetError


@dataclass(frozen=True)
class ExportedNet:
    """A Relax function ``main(image, parameters...)`` and the state-dict name behind each parameter."""

    module: tvm.ir.IRModule
    names: dict[str, str]

    @property
    def main(self) -> relax.Function:
        """The function ``main``."""
        return self.module["main"]


def export(net: nn.Module, shape: tuple[int, ...]) -> ExportedNet:
    """Return ``net``, of plain torch layers in evaluation mode, for one input of ``shape`` (C, H, W).

    Raises:
        TargetError: torch cannot export the network or TVM cannot read the export.
    """
    net = _buffers_as_parameters(copy.deepcopy(net).eval())
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch.export's own use of its deprecated pytree names
            program = torch.export.export(net, (torch.zeros(1, *shape),))
            module = from_exported_program(program, keep_params_as_input=True, unwrap_unit_return_tuple=True)
    except Exception as fault:  # torch and TVM raise whatever they like here
        line = str(fault).strip().splitlines()[0] if str(fault).strip() else type(fault).__name__
        raise TargetError(f"{type(net).__name__} with input {shape} cannot be lowered: {line}") from fault
    module, _ = relax.frontend.detach_params(module)
    module = relax.transform.CanonicalizeBindings()(module)
    module = relax.transform.DeadCodeElimination()(module)
    return ExportedNet(module, dict(program.graph_signature.inputs_to_parameters))


def _buffers_as_parameters(net: nn.Module) -> nn.Module:
    """Turn the statistics of batch norms into parameters, so that they too come from the model file."""
    for layer in net.modules():
        for name, value in list(layer.named_buffers(recurse=False)):
            if value.is_floating_point():
                delattr(layer, name)
                layer.register_parameter(name, nn.Parameter(value, requires_grad=False))
    return net
