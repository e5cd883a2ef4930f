"""Steps to TensorIR: one private function per distinct kernel, and two public ones that call them.

``run(image, outputs, workspace, parameters, first, last)`` computes the steps ``first <= k < last``: the whole network is
one call without any interpreter, and timing a single layer is the same call with a shorter range.
``pack(step, weight, bias, gamma, beta, mean, variance, multiplier, parameters)`` writes the weights of one step, as the model file has
them, in the order in which its kernel streams them; it runs once for every step, when a bundle is opened. Tensors that
a step does not have may be anything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm.ir import Call, GlobalVar, IRModule
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script.builder import ir as tir

from ..kernels.packing import affine_function, interleave_function
from ..kernels.vector import FLOAT, Lanes
from .plan import IMAGE, OUTPUTS, KernelCall, Plan

ROLES = ("weight", "bias", "gamma", "beta", "mean", "variance", "multiplier")


def generate(plan: Plan, lanes: Lanes) -> IRModule:
    """Return the module with ``run``, ``pack`` and the kernels they call."""
    functions: dict[GlobalVar, Any] = {}
    kernels = {step.kernel: GlobalVar(f"kernel{number}") for number, step in enumerate(_distinct(plan))}
    for step in _distinct(plan):
        functions[kernels[step.kernel]] = _kernel(step, lanes)
    functions[GlobalVar("interleave")] = interleave_function()
    functions[GlobalVar("affine")] = affine_function()
    module = IRModule(functions)
    known = {variable.name_hint: variable for variable in module.functions}
    module["run"] = _run(plan, lambda step: known[kernels[step.kernel].name_hint])
    module["pack"] = _pack(plan, known["interleave"], known["affine"])
    return module


def _distinct(plan: Plan) -> list[KernelCall]:
    return list({step.kernel: step for step in reversed(plan.steps)}.values())[::-1]


def _private(build: Callable[[list[Any]], None], sizes: list[int]) -> Any:
    """Return a function over ``sizes`` flat buffers that do not overlap, for calls inside the library."""
    with IRBuilder() as builder, tir.prim_func(private=True, s_tir=True):
        tir.func_name("kernel")
        tir.func_attr({"tirx.noalias": True})
        pointers = [tir.arg(f"p{number}", tir.handle(FLOAT)) for number in range(len(sizes))]
        build([tir.decl_buffer((size,), FLOAT, data=p) for size, p in zip(sizes, pointers, strict=True)])
    return builder.get()


def _kernel(step: KernelCall, lanes: Lanes) -> Any:
    kernel = step.kernel
    sizes = [*(grid.size for grid in kernel.inputs), kernel.packing.size if kernel.packing else 1, kernel.target.size]
    return _private(lambda buffers: kernel.body(lanes, buffers[:-2], buffers[-2], buffers[-1]), sizes)


def _public(name: str) -> None:
    tir.func_name(name)
    tir.func_attr({"global_symbol": name})


def _flat(name: str, size: int, align: int = 64) -> Any:
    return tir.arg(name, tir.buffer((size,), FLOAT, align=align))


def _run(plan: Plan, function: Callable[[KernelCall], GlobalVar]) -> Any:
    with IRBuilder() as builder, tir.prim_func(s_tir=True):
        _public("run")
        caller = {IMAGE: _flat(IMAGE, plan.input.size), OUTPUTS: _flat(OUTPUTS, plan.output.size)}
        workspace, parameters = _flat("workspace", plan.workspace), _flat("parameters", max(plan.packed, 1))
        first, last = tir.arg("first", tir.int32()), tir.arg("last", tir.int32())

        def pointer(name: str, mode: str) -> Any:
            if name in caller:
                return caller[name].access_ptr(mode)
            return workspace.access_ptr(mode, offset=plan.places[name])

        for number, step in enumerate(plan.steps):
            with tir.If((first <= number) & (number < last)), tir.Then():
                reads = [pointer(name, "r") for name in step.inputs]
                weights = parameters.access_ptr("r", offset=step.offset)
                tir.evaluate(Call(function(step), [*reads, weights, pointer(step.output, "w")]))
    return builder.get()


def _pack(plan: Plan, interleave: GlobalVar, affine: GlobalVar) -> Any:
    with IRBuilder() as builder, tir.prim_func(s_tir=True):
        _public("pack")
        chosen = tir.arg("step", tir.int32())
        tensors = {role: tir.arg(role, tir.buffer((tir.int32(),), FLOAT, align=4)) for role in ROLES}
        parameters = _flat("parameters", max(plan.packed, 1))
        for number, step in enumerate(plan.steps):
            packing = step.kernel.packing
            if packing is None:
                continue
            roles = {role for role, _, _ in step.parameters}
            with tir.If(chosen == number), tir.Then():
                out = parameters.access_ptr("w", offset=step.offset)
                reads = [tensors[role].access_ptr("r") for role in ROLES[1:]]
                flags = [int("bias" in roles), int(packing.norm is not None), int(packing.multiplied)]
                sizes = _ints(packing.shifts, packing.channels, packing.padded, *flags)
                epsilon = tir.float32(packing.norm.epsilon if packing.norm else 0.0)
                tir.evaluate(Call(affine, [*reads, out, *sizes, epsilon]))
                for piece in packing.pieces:
                    start = piece.first * packing.taps
                    sizes = _ints(*piece.sizes, packing.channels, packing.inputs, packing.scales, start)
                    tir.evaluate(Call(interleave, [tensors["weight"].access_ptr("r"), out, *sizes]))
    return builder.get()


def _ints(*values: int) -> list[Any]:
    return [tir.int32(value) for value in values]
