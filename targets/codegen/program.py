"""Plan to TensorIR: one private function per distinct kernel, and the public ``run`` and ``pack`` of ``abi`` that call them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm.ir import Call, GlobalVar, IRModule
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script.builder import ir as tir

from ..abi import IMAGE, OUTPUTS, PACK, PARAMETERS, ROLES, RUN, WORKSPACE, Argument, itemsize
from ..kernels.layout import BlockedLayout
from ..kernels.packing import affine_function, interleave_function
from ..kernels.vector import Lanes
from ..table import Target
from .plan import KernelCall, Plan


def generate(plan: Plan, target: Target) -> IRModule:
    """Return the module with ``run``, ``pack`` and the kernels they call."""
    functions: dict[GlobalVar, Any] = {}
    kernels = {step.kernel: GlobalVar(f"kernel{number}") for number, step in enumerate(_distinct(plan))}
    for step in _distinct(plan):
        functions[kernels[step.kernel]] = _kernel(step, Lanes.of(target))
    functions[GlobalVar("interleave")] = interleave_function()
    functions[GlobalVar("affine")] = affine_function()
    module = IRModule(functions)
    known = {variable.name_hint: variable for variable in module.functions}
    module["run"] = _run(plan, lambda step: known[kernels[step.kernel].name_hint])
    module["pack"] = _pack(plan, known["interleave"], known["affine"])
    return module


def _distinct(plan: Plan) -> list[KernelCall]:
    return list({step.kernel: step for step in reversed(plan.steps)}.values())[::-1]


def _kernel(step: KernelCall, lanes: Lanes) -> Any:
    """Return a function over flat buffers that do not overlap, for calls inside the library."""
    kernel = step.kernel
    packed = BlockedLayout(kernel.packing.size if kernel.packing else 1, 1, 1, dtype=PARAMETERS.dtype)
    layouts = [*kernel.inputs, packed, kernel.output]
    with IRBuilder() as builder, tir.prim_func(private=True, s_tir=True):
        tir.func_name("kernel")
        tir.func_attr({"tirx.noalias": True})
        pointers = [tir.arg(f"p{number}", tir.handle(layout.dtype)) for number, layout in enumerate(layouts)]
        pairs = zip(layouts, pointers, strict=True)
        *sources, weights, out = [tir.decl_buffer((layout.size,), layout.dtype, data=p) for layout, p in pairs]
        kernel.emit(lanes, sources, weights, out)
    return builder.get()


def _declare(name: str, arguments: Sequence[Argument], sizes: dict[str, Any]) -> dict[str, Any]:
    """Declare a public function with the arguments of the calling convention; return them by name."""
    tir.func_name(name)
    tir.func_attr({"global_symbol": name})
    return {argument.name: _argument(argument, sizes) for argument in arguments}


def _argument(argument: Argument, sizes: dict[str, Any]) -> Any:
    if not argument.is_buffer:
        return tir.arg(argument.name, tir.int32())
    size = sizes[argument.name] if argument.name in sizes else tir.int32()  # of any size
    return tir.arg(argument.name, tir.buffer((size,), argument.dtype, align=argument.align))


def _run(plan: Plan, function: Callable[[KernelCall], GlobalVar]) -> Any:
    sizes = {
        IMAGE.name: plan.input.size,
        OUTPUTS.name: plan.output.size,
        WORKSPACE.name: plan.workspace_bytes // itemsize(WORKSPACE.dtype),
        PARAMETERS.name: max(plan.packed, 1),
    }
    with IRBuilder() as builder, tir.prim_func(s_tir=True):
        given = _declare("run", RUN, sizes)
        workspace, first, last = given[WORKSPACE.name], given["first"], given["last"]

        def pointer(name: str, mode: str) -> Any:
            if name in plan.offsets:
                return workspace.access_ptr(mode, offset=plan.offsets[name] // itemsize(WORKSPACE.dtype))
            return given[name].access_ptr(mode)

        for number, step in enumerate(plan.steps):
            with tir.If((first <= number) & (number < last)), tir.Then():
                reads = [pointer(tensor.name, "r") for tensor in step.inputs]
                weights = given[PARAMETERS.name].access_ptr("r", offset=step.offset)
                tir.evaluate(Call(function(step), [*reads, weights, pointer(step.output.name, "w")]))
    return builder.get()


def _pack(plan: Plan, interleave: GlobalVar, affine: GlobalVar) -> Any:
    with IRBuilder() as builder, tir.prim_func(s_tir=True):
        given = _declare("pack", PACK, {PARAMETERS.name: max(plan.packed, 1)})
        parameters = given[PARAMETERS.name]
        for number, step in enumerate(plan.steps):
            packing = step.kernel.packing
            if packing is None:
                continue
            with tir.If(given["step"] == number), tir.Then():
                out = parameters.access_ptr("w", offset=step.offset)
                reads = [given[role].access_ptr("r") for role in ROLES[1:]]
                flags = [int("bias" in step.parameters), int(packing.norm is not None), int(packing.multiplied)]
                sizes = _ints(packing.shifts, packing.channels, packing.padded, *flags)
                epsilon = tir.float32(packing.norm.epsilon if packing.norm else 0.0)
                tir.evaluate(Call(affine, [*reads, out, *sizes, epsilon]))
                for piece in packing.pieces:
                    start = piece.first * packing.taps
                    sizes = _ints(*piece.sizes, packing.channels, packing.inputs, packing.scales, start)
                    tir.evaluate(Call(interleave, [given["weight"].access_ptr("r"), out, *sizes]))
    return builder.get()


def _ints(*values: int) -> list[Any]:
    return [tir.int32(value) for value in values]
