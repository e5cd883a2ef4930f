"""The operators of torch that are compiled, each with the options that are read; anything else is refused by name.

A converter that ignores an option computes another network without a word. So every option is either listed here, and then
a test compares it with torch, or it must have its default. What other operators express is rewritten before.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import Any

import torch
from torch import fx

from ...core.errors import TargetError

aten = torch.ops.aten
MOST = 8  # lines of one message


@dataclass(frozen=True)
class Options:
    """What of an operator's arguments is read: those of ``reads``, whatever they are, and those of ``only``, which must be so."""

    reads: tuple[str, ...]
    only: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


def _reads(*names: str, **only: Any) -> Options:
    return Options(names, MappingProxyType(only))


OPERATORS: dict[str, Options] = {
    "aten.convolution.default": _reads(
        "input", "weight", "bias", "stride", "padding", "dilation", "groups", transposed=False, output_padding=0
    ),
    "aten.addmm.default": _reads("self", "mat1", "mat2", "alpha"),
    "aten.mm.default": _reads("self", "mat2"),
    "aten._native_batch_norm_legit_no_training.default": _reads(
        "input", "weight", "bias", "running_mean", "running_var", "momentum", "eps"
    ),
    "aten.max_pool2d_with_indices.default": _reads("self", "kernel_size", "stride", "padding", "dilation", "ceil_mode"),
    "aten.avg_pool2d.default": _reads("self", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad"),
    "aten._adaptive_avg_pool2d.default": _reads("self", "output_size"),
    "aten.mean.dim": _reads("self", "dim", "keepdim"),
    "aten.add.Tensor": _reads("self", "other"),
    "aten.sub.Tensor": _reads("self", "other"),
    "aten.mul.Tensor": _reads("self", "other"),
    "aten.relu.default": _reads("self"),
    "aten.leaky_relu.default": _reads("self", "negative_slope"),
    "aten.hardtanh.default": _reads("self", "min_val", "max_val"),
    "aten.clamp.default": _reads("self", "min", "max"),
    "aten.tanh.default": _reads("self"),
    "aten.sigmoid.default": _reads("self"),
    "aten.exp.default": _reads("self"),
    "aten.sqrt.default": _reads("self"),
    "aten.abs.default": _reads("self"),
    "aten.neg.default": _reads("self"),
    "aten.round.default": _reads("self"),
    "aten.slice.Tensor": _reads("self", "dim", "start", "end", "step"),
    "aten.constant_pad_nd.default": _reads("self", "pad", value=0),
    "aten.permute.default": _reads("self", "dims"),
    "aten.view.default": _reads("self", "size"),
    "aten.squeeze.dims": _reads("self", "dim"),
    "aten.unsqueeze.default": _reads("self", "dim"),
    "aten.alias.default": _reads("self"),
    "aten.detach.default": _reads("self"),
    "aten.clone.default": _reads("self", "memory_format"),  # how it lies in memory changes no value
    "aten._assert_tensor_metadata.default": _reads("a", "size", "stride", "dtype", "device", "layout"),
}
WHY = {  # what is worth more than "no kernel"
    "aten.native_dropout.default": "dropout that also works in evaluation mode gives other codes at every run; "
    "pass training=self.training",
    "aten.bernoulli.p": "random numbers in evaluation mode give other codes at every run",
    "aten._native_batch_norm_legit.no_stats": "a norm by the statistics of the batch makes a code depend on what it is computed with",
    "aten._native_batch_norm_legit_functional.default": "a batch norm in training mode",
    "aten._to_copy.default": "arithmetic of another type than float32",
}


def check_operators(program: Any) -> None:
    """Check every operator of an exported program against ``OPERATORS``.

    Raises:
        TargetError: operators without a kernel, or options that are not read, each with its layer's name.
    """
    if found := unsupported(program):
        more = f"; and {len(found) - MOST} more" if len(found) > MOST else ""
        raise TargetError("; ".join(found[:MOST]) + more)


def unsupported(program: Any) -> list[str]:
    """Return what of an exported program cannot be compiled, one line for each operator, beginning with the layer's name."""
    used = _used(program)
    calls = [
        n for n in program.graph.nodes if n.op == "call_function" and n.target is not operator.getitem and n in used
    ]
    return list(dict.fromkeys(fault for node in calls if (fault := _fault(node))))


def rewritings() -> dict[Any, Callable[..., Any]]:
    """Return torch's decompositions into its core operators, and ours into those that are compiled."""
    return {**_core(), **REWRITINGS}


@cache
def _core() -> Mapping[Any, Callable[..., Any]]:
    return dict(torch.export.default_decompositions())  # a walk over all of torch's operators


def layer_of(node: fx.Node) -> str:
    """Return the dotted path of the module that called an operator, "the network" where that is the whole."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return (stack[-1][0] if stack else "") or "the network"


def user_output(program: Any) -> fx.Node:
    """Return the operator whose result is the network's output.

    Raises:
        TargetError: the network gives several tensors, or none.
    """
    kinds = torch.export.graph_signature.OutputKind
    results = zip(program.graph.output_node().args[0], program.graph_signature.output_specs, strict=True)
    found = [node for node, spec in results if spec.kind is kinds.USER_OUTPUT]
    if len(found) != 1 or not isinstance(found[0], fx.Node):
        raise TargetError(f"a network gives one tensor of outputs (N, bits), this one gives {len(found)}")
    return found[0]


def _used(program: Any) -> set[fx.Node]:
    """Return the nodes that the output depends on: what a network counts in its buffers on the way is none of them."""
    todo, found = [user_output(program)], set[fx.Node]()
    while todo:
        node = todo.pop()
        if node not in found:
            found.add(node)
            todo.extend(node.all_input_nodes)
    return found


def _fault(node: fx.Node) -> str | None:
    name, label = str(node.target), layer_of(node)
    if name not in OPERATORS:
        why = f" ({WHY[name]})" if name in WHY else ""
        return f"{label}: no kernel for {name.removeprefix('aten.').removesuffix('.default').strip('_')}{why}"
    options, given = OPERATORS[name], arguments(node)
    for argument in node.target._schema.arguments:  # type: ignore[union-attr]  # noqa: SLF001 - torch has no other way
        if argument.name in options.reads or argument.name not in given:
            continue
        value, wanted = given[argument.name], options.only.get(argument.name, argument.default_value)
        if not _equal(value, wanted):
            return (
                f"{label}: no kernel for {name.split('.')[1].strip('_')} with {argument.name}={value} "
                f"(only {argument.name}={wanted} is computed)"
            )
    return None


def arguments(node: fx.Node) -> dict[str, Any]:
    """Return what an operator was called with, by the names of torch's schema."""
    names = [argument.name for argument in node.target._schema.arguments]  # type: ignore[union-attr]  # noqa: SLF001
    return {**dict(zip(names, node.args, strict=False)), **node.kwargs}


def _equal(value: Any, wanted: Any) -> bool:
    if isinstance(value, list | tuple):
        return value == wanted or (not isinstance(wanted, list | tuple) and all(item == wanted for item in value))
    return (type(value) is type(wanted) and value == wanted) or (value == wanted and isinstance(value, int | float))


def _scaled_sum(join: Callable[..., Any]) -> Callable[..., Any]:
    """Return the decomposition of a sum whose second operand is multiplied by ``alpha``."""

    def rewrite(one: Any, other: Any, *, alpha: Any = 1) -> Any:
        return NotImplemented if alpha == 1 else join(one, other * alpha)

    return rewrite


def _average(
    x: torch.Tensor,
    kernel_size: list[int],
    stride: list[int] = (),  # type: ignore[assignment]
    padding: list[int] = (0,),  # type: ignore[assignment]
    ceil_mode: bool = False,
    count_include_pad: bool = True,  # noqa: ARG001 - the divisor is given
    divisor_override: int | None = None,
) -> Any:
    """Return an average whose divisor is given as the usual one and a factor, where all windows count equally many pixels."""
    if divisor_override is None:
        return NotImplemented
    area = kernel_size[0] * kernel_size[-1]
    whole = aten.avg_pool2d.default(x, kernel_size, stride, padding, False, True)
    if ceil_mode and aten.avg_pool2d.default(x, kernel_size, stride, padding, True, True).shape != whole.shape:
        return NotImplemented
    return whole * (area / divisor_override)


def _quotient(one: Any, other: Any) -> Any:
    return one * (1.0 / other) if isinstance(other, int | float) and other != 0 else NotImplemented


REWRITINGS: dict[Any, Callable[..., Any]] = {
    aten.add.Tensor: _scaled_sum(torch.add),
    aten.sub.Tensor: _scaled_sum(torch.sub),
    aten.div.Tensor: _quotient,
    aten.avg_pool2d.default: _average,
}
