"""From a hashing network to Relax: exported by torch, parameters as inputs, nothing baked in.

The compiled kernels depend on shapes alone; the values come from the model file when the bundle is opened.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import tvm
from torch import fx, nn
from tvm import relax
from tvm.relax.frontend.torch.exported_program_translator import ExportedProgramImporter

from ...core.errors import TargetError
from ...core.state import set_tensor, unsaved
from .operators import check_operators, rewritings, user_output


@dataclass(frozen=True)
class ExportedNet:
    """A Relax function ``main(image, parameters...)`` and the name in the model file behind each parameter."""

    module: tvm.ir.IRModule
    names: Mapping[str, str]
    program: Any  # torch's own, of the operators that ``module`` is made of
    nodes: Mapping[str, fx.Node] = field(default_factory=dict)  # Relax variable -> the operator whose result it holds

    @property
    def main(self) -> relax.Function:
        """The function ``main``."""
        return self.module["main"]

    def values(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the result of every operator by its name, as torch computes it for ``image`` (1, C, H, W)."""
        found: dict[str, torch.Tensor] = {}

        class Recording(fx.Interpreter):
            def run_node(self, n: fx.Node) -> Any:
                value = super().run_node(n)
                if isinstance(value, torch.Tensor):
                    found[n.name] = value.clone()
                return value

        held = {**self.program.state_dict, **self.program.constants}
        inputs = [
            image if spec.target is None else held[spec.target] for spec in self.program.graph_signature.input_specs
        ]
        with torch.no_grad():
            Recording(self.program.graph_module).run(*inputs)
        return found


def export(net: nn.Module, shape: tuple[int, ...]) -> ExportedNet:
    """Return ``net``, of plain torch layers in evaluation mode, for one input of ``shape`` (C, H, W).

    Raises:
        TargetError: torch cannot export the network, it has an operator or option without a kernel, or TVM cannot read it.
    """
    net = _buffers_as_parameters(copy.deepcopy(net).eval())
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch.export's own use of its deprecated pytree names
            program = torch.export.export(net, (torch.zeros(1, *shape),)).run_decompositions(rewritings())
            check_operators(program)
            importer = ExportedProgramImporter()
            module = importer.from_exported_program(program, True, True, False, None)
    except TargetError:
        raise
    except Exception as fault:  # torch and TVM raise whatever they like here
        line = str(fault).strip().splitlines()[0] if str(fault).strip() else type(fault).__name__
        raise TargetError(f"{type(net).__name__} with input {shape} cannot be lowered: {line}") from fault
    module, _ = relax.frontend.detach_params(module)
    module = relax.transform.CanonicalizeBindings()(module)
    module = relax.transform.DeadCodeElimination()(module)
    nodes: dict[str, fx.Node] = {}
    for node, value in importer.env.items():  # the first of several names of one value is the operator that made it
        if isinstance(node, fx.Node) and isinstance(value, relax.Var):
            nodes.setdefault(value.name, node)
    if isinstance(result := module["main"].body.body, relax.Var):  # TVM gives what is returned a name of its own
        nodes[result.name] = user_output(program)
    return ExportedNet(module, dict(program.graph_signature.inputs_to_parameters), program, nodes)


def _buffers_as_parameters(net: nn.Module) -> nn.Module:
    """Turn buffers of numbers, and tensors that are neither, into parameters, so that they too come from the model file."""
    for layer in net.modules():
        for name, value in list(layer.named_buffers(recurse=False)):
            if value.is_floating_point():
                delattr(layer, name)
                layer.register_parameter(name, nn.Parameter(value, requires_grad=False))
    for name, value in unsaved(net).items():
        if value.is_floating_point() and not isinstance(value, nn.Parameter):
            set_tensor(net, name, nn.Parameter(value.detach(), requires_grad=False))
    return net
