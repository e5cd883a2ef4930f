"""Steps to TensorIR: one private function per distinct kernel, and two public ones that call them.

``run(image, outputs, workspace, parameters, first, last)`` computes the steps ``first <= k < last``: the whole network is
one call without any interpreter, and timing a single layer is the same call with a shorter range.
``pack(tensors..., parameters)`` writes the weights of the model file in the order in which the kernels stream them; it
runs once, when a bundle is opened.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm.ir import Call, GlobalVar, IRModule
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script.builder import ir as T

from .legalize.lanes import FLOAT, Lanes
from .plan import IMAGE, OUTPUTS, Plan, Step


def generate(plan: Plan, lanes: Lanes) -> IRModule:
    """Return the module with ``run``, ``pack`` and the kernels they call."""
    functions: dict[GlobalVar, Any] = {}
    kernels = {step.kernel: GlobalVar(f"kernel{number}") for number, step in enumerate(_distinct(plan))}
    packers = {_packer(step): GlobalVar(f"pack{number}") for number, step in enumerate(_distinct(plan)) if step.shapes}
    for step in _distinct(plan):
        functions[kernels[step.kernel]] = _kernel(step, lanes)
        if step.shapes:
            functions[packers[_packer(step)]] = _packing(step, lanes)
    module = IRModule(functions)
    known = {variable.name_hint: variable for variable in module.functions}
    module["run"] = _run(plan, lambda step: known[kernels[step.kernel].name_hint])
    module["pack"] = _pack(plan, lambda step: known[packers[_packer(step)].name_hint])
    return module


def _distinct(plan: Plan) -> list[Step]:
    return list({step.kernel: step for step in reversed(plan.steps)}.values())[::-1]


def _packer(step: Step) -> tuple[Any, tuple[tuple[int, ...], ...]]:
    return (step.kernel, step.shapes)


def _private(build: Callable[[list[Any]], None], sizes: list[int]) -> Any:
    """Return a function over ``sizes`` flat buffers that do not overlap, for calls inside the library."""
    with IRBuilder() as builder:
        with T.prim_func(private=True, s_tir=True):
            T.func_name("kernel")
            T.func_attr({"tirx.noalias": True})
            pointers = [T.arg(f"p{number}", T.handle(FLOAT)) for number in range(len(sizes))]
            build([T.decl_buffer((size,), FLOAT, data=p) for size, p in zip(sizes, pointers, strict=True)])
    return builder.get()


def _kernel(step: Step, lanes: Lanes) -> Any:
    kernel = step.kernel
    sizes = [*(grid.size for grid in kernel.inputs), max(kernel.packed, 1), kernel.target.size]
    return _private(lambda buffers: kernel.body(lanes, buffers[:-2], buffers[-2], buffers[-1]), sizes)


def _packing(step: Step, lanes: Lanes) -> Any:
    sizes = [*(_count(shape) for shape in step.shapes), step.kernel.packed]
    return _private(lambda buffers: step.kernel.pack(lanes, buffers[:-1], buffers[-1]), sizes)


def _count(shape: tuple[int, ...]) -> int:
    total = 1
    for extent in shape:
        total *= extent
    return total


def _public(name: str) -> None:
    T.func_name(name)
    T.func_attr({"global_symbol": name})


def _flat(name: str, size: int, align: int = 64) -> Any:
    return T.arg(name, T.buffer((size,), FLOAT, align=align))


def _run(plan: Plan, function: Callable[[Step], GlobalVar]) -> Any:
    with IRBuilder() as builder:
        with T.prim_func(s_tir=True):
            _public("run")
            caller = {IMAGE: _flat(IMAGE, plan.input.size), OUTPUTS: _flat(OUTPUTS, plan.output.size)}
            workspace, parameters = _flat("workspace", plan.workspace), _flat("parameters", max(plan.packed, 1))
            first, last = T.arg("first", T.int32()), T.arg("last", T.int32())

            def pointer(name: str, mode: str) -> Any:
                if name in caller:
                    return caller[name].access_ptr(mode)
                return workspace.access_ptr(mode, offset=plan.places[name])

            for number, step in enumerate(plan.steps):
                with T.If((first <= number) & (number < last)), T.Then():
                    reads = [pointer(name, "r") for name in step.inputs]
                    weights = parameters.access_ptr("r", offset=step.offset)
                    T.evaluate(Call(function(step), [*reads, weights, pointer(step.output, "w")]))
    return builder.get()


def _pack(plan: Plan, function: Callable[[Step], GlobalVar]) -> Any:
    with IRBuilder() as builder:
        with T.prim_func(s_tir=True):
            _public("pack")
            tensors = {
                name: _flat(f"tensor{number}", _count(shape), align=4)
                for number, (name, shape) in enumerate(tensors_of(plan).items())
            }
            parameters = _flat("parameters", max(plan.packed, 1))
            for step in plan.steps:
                if step.shapes:
                    reads = [tensors[name].access_ptr("r") for name in step.parameters]
                    T.evaluate(Call(function(step), [*reads, parameters.access_ptr("w", offset=step.offset)]))
    return builder.get()


def tensors_of(plan: Plan) -> dict[str, tuple[int, ...]]:
    """Return the state-dict names and shapes that ``pack`` takes, in order."""
    return {n: s for step in plan.steps for n, s in zip(step.parameters, step.shapes, strict=True)}
