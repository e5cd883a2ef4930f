"""Relax to graph: one small reader per operator, in a literal table."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tvm import relax
from tvm.ir import Constant

from ...core.errors import TargetError
from .export import Lowered
from .graph import Graph, Node, Op, Shape

UNARY = {"relax.nn.relu": "relu", "relax.tanh": "tanh", "relax.sigmoid": "sigmoid", "relax.nn.relu6": "relu6",
         "relax.sqrt": "sqrt", "relax.exp": "exp", "relax.abs": "abs", "relax.negative": "negative", "relax.round": "round"}  # fmt: skip
BINARY = {"relax.add": "add", "relax.subtract": "subtract", "relax.multiply": "multiply"}
ROLES = {"add": "bias", "multiply": "multiplier"}  # of a parameter with one number for each channel
SAME = {"relax.nn.dropout", "relax.reshape", "relax.flatten", "relax.squeeze", "relax.expand_dims"}


@dataclass(frozen=True)
class Value:
    """An activation by name; ``shape`` is (C, H, W), of a vector (C, 1, 1)."""

    name: str
    shape: Shape


@dataclass(frozen=True)
class Parameter:
    """A tensor of the model file, perhaps seen through a transpose or a reshape that adds ones."""

    name: str
    shape: tuple[int, ...]
    transposed: bool = False


@dataclass
class Reader:
    """The state of one walk over a Relax function."""

    env: dict[Any, Any] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    written: dict[str, Shape] = field(default_factory=dict)  # how values lie in memory, whatever reshapes say

    def emit(self, kind: str, operand: Value, shape: Shape, **fields: Any) -> Value:
        """Append a node named after its parameters' layer or, without parameters, after its kind and a number."""
        parameters: dict[str, Parameter] = fields.pop("parameters", {})
        label = fields.pop("label", kind)
        number = self.counts[label] = self.counts.get(label, 0) + 1
        names = [parameter.name for parameter in parameters.values()]
        name = names[0].rpartition(".")[0] or names[0] if names else f"{label}{number}"
        output = f"v{len(self.nodes)}"
        inputs = (operand.name, *fields.pop("others", ()))
        written = self.written.get(operand.name, operand.shape)
        if kind != "dense" and written != operand.shape and math.prod(operand.shape) != max(operand.shape):
            raise TargetError(f"{name}: no kernel for a {kind} on {written} seen as {operand.shape}")
        seen = shape
        if kind == "pointwise" and written != operand.shape:
            if len(inputs) > 1 or parameters:
                raise TargetError(f"{name}: no kernel for it between a flattened image {written} and a dense layer")
            shape = written  # what looks at one number at a time does not mind
        self.written[output] = shape
        self.nodes.append(
            Node(kind, name, inputs, output, shape, {role: p.name for role, p in parameters.items()},
                 {role: p.shape for role, p in parameters.items()}, **fields)
        )  # fmt: skip
        return Value(output, seen)

    def value(self, expr: Any) -> Any:
        """Return what an argument stands for."""
        if expr in self.env:
            return self.env[expr]
        raise TargetError(f"the network computes with a constant of shape {_shape(expr)}; register it as a parameter")


def read(lowered: Lowered) -> Graph:
    """Return the graph of a lowered network.

    Raises:
        TargetError: an operator that no kernel covers, with its name and shapes.
    """
    main, reader = lowered.main, Reader()
    image = main.params[0]
    channels_first = _shape(image)[1:]
    reader.env[image] = Value("input", _chw(channels_first))
    reader.written["input"] = _chw(channels_first)
    for parameter in main.params[1:]:
        reader.env[parameter] = Parameter(lowered.names[parameter.name], _shape(parameter))
    for block in main.body.blocks:
        for binding in block.bindings:
            reader.env[binding.var] = _bind(reader, binding)
    result = reader.value(main.body.body)
    return Graph("input", _chw(channels_first), result.name, tuple(reader.nodes))


def _bind(reader: Reader, binding: Any) -> Any:
    call = binding.value
    if isinstance(call, relax.Var | relax.DataflowVar):
        return reader.value(call)
    if isinstance(call, relax.TupleGetItem):
        return reader.value(call.tuple_value)
    if not isinstance(call, relax.Call):
        return None  # shapes, constants and tuples of arguments
    name = call.op.name
    if name not in READERS:
        shapes = ", ".join(str(_shape(arg)) for arg in call.args if arg in reader.env)
        raise TargetError(f"no kernel for {name} (inputs {shapes}); supported: {', '.join(sorted(READERS))}")
    return READERS[name](reader, call, binding.var)


def _shape(expr: Any) -> tuple[int, ...]:
    return tuple(int(extent) for extent in expr.ty.shape.values)


def _chw(shape: tuple[int, ...]) -> Shape:
    """Return a shape without its batch as (C, H, W)."""
    if len(shape) in (1, 3):
        return (*shape, 1, 1)[:3]  # type: ignore[return-value]
    raise TargetError(f"activations are images (C, H, W) or vectors (C,), found shape {shape} behind the batch")


def _same(reader: Reader, call: Any, var: Any) -> Any:
    """Dropout at rest, and reshapes: of a parameter, or of an activation into a vector and back."""
    operand = reader.value(call.args[0])
    if call.op.name == "relax.nn.dropout":
        return operand
    shape = _shape(var)
    if isinstance(operand, Parameter):
        return operand
    if shape[0] != 1 or len(shape) not in (2, 4):
        raise TargetError(f"no kernel for a reshape of {operand.shape} to {shape}")
    target = _chw(shape[1:])
    if target == operand.shape:
        return operand
    if len(shape) == 4 and math.prod(operand.shape[1:]) == 1 == math.prod(target[1:]):
        return Value(operand.name, target)
    if len(shape) == 2:
        return Value(operand.name, target)
    raise TargetError(f"no kernel for a reshape of {operand.shape} to {shape}")


def _transpose(reader: Reader, call: Any, _: Any) -> Any:
    operand = reader.value(call.args[0])
    if isinstance(operand, Parameter) and len(operand.shape) == 2:
        return Parameter(operand.name, operand.shape, not operand.transposed)
    raise TargetError(f"no kernel for a transpose of shape {operand.shape}")


def _conv(reader: Reader, call: Any, var: Any) -> Value:
    x, weight = reader.value(call.args[0]), reader.value(call.args[1])
    attrs = call.attrs
    padding = [int(p) for p in attrs.padding]
    if padding[:2] != padding[2:]:
        raise TargetError(f"{weight.name}: no kernel for uneven padding {padding}")
    settings = {"kernel": weight.shape[2:], "stride": _ints(attrs.strides), "padding": tuple(padding[:2]),
                "dilation": _ints(attrs.dilation), "groups": int(attrs.groups)}  # fmt: skip
    return reader.emit("conv", x, _chw(_shape(var)[1:]), parameters={"weight": weight}, settings=settings)


def _dense(reader: Reader, call: Any, var: Any) -> Value:
    x, weight = reader.value(call.args[0]), reader.value(call.args[1])
    if not isinstance(weight, Parameter) or not weight.transposed:
        raise TargetError(f"no kernel for a product of activations of shapes {x.shape} and {weight.shape}")
    return reader.emit("dense", x, _chw(_shape(var)[1:]), parameters={"weight": weight})


def _norm(reader: Reader, call: Any, var: Any) -> Value:  # noqa: ARG001 - a tuple, of which only the first is used
    x, *values = (reader.value(arg) for arg in call.args)
    roles = dict(zip(("gamma", "beta", "mean", "variance"), values, strict=True))
    return reader.emit("pointwise", x, x.shape, parameters=roles, settings={"epsilon": float(call.attrs.epsilon)})


def _unary(reader: Reader, call: Any, _: Any) -> Value:
    x = reader.value(call.args[0])
    name = UNARY[call.op.name]
    return reader.emit("pointwise", x, x.shape, chain=(Op(name),), label=name)


def _clip(reader: Reader, call: Any, _: Any) -> Value:
    x, *limits = call.args
    return _constant(reader, reader.value(x), Op("clamp", tuple(_number(limit) for limit in limits)))


def _constant(reader: Reader, x: Value, op: Op) -> Value:
    return reader.emit("pointwise", x, x.shape, chain=(op,), label=op.name)


def _binary(reader: Reader, call: Any, _: Any) -> Value:
    name = BINARY[call.op.name]
    one: Any
    other: Any
    one, other = (_number(arg) if _is_number(arg) else reader.value(arg) for arg in call.args)
    if not isinstance(one, Value) and name in ROLES:
        one, other = other, one
    if isinstance(one, float):
        return _constant(reader, _constant(reader, other, Op("negative")), Op("shift", (one,)))
    if isinstance(other, float):
        scales = name == "multiply"
        return _constant(reader, one, Op("scale" if scales else "shift", (-other if name == "subtract" else other,)))
    if isinstance(other, Parameter) and name in ROLES and math.prod(other.shape) == one.shape[0]:
        return reader.emit("pointwise", one, one.shape, parameters={ROLES[name]: other})
    if isinstance(other, Value) and isinstance(one, Value) and one.shape == other.shape:
        return reader.emit("pointwise", one, one.shape, chain=(Op(name),), label=name, others=(other.name,))
    raise TargetError(f"no kernel for {name} of shapes {one.shape} and {other.shape}")


def _pool(reader: Reader, call: Any, var: Any) -> Value:
    x, attrs = reader.value(call.args[0]), call.attrs
    kind = "max" if "max" in call.op.name else "avg"
    settings = {"kind": kind, "kernel": _ints(attrs.pool_size), "stride": _ints(attrs.strides),
                "padding": _ints(attrs.padding)[:2], "dilation": _ints(attrs.dilation),
                "count_padding": bool(attrs.count_include_pad)}  # fmt: skip
    return reader.emit("pool", x, _chw(_shape(var)[1:]), label=f"{kind}pool", settings=settings)


def _adaptive(reader: Reader, call: Any, var: Any) -> Value:
    x, target = reader.value(call.args[0]), _chw(_shape(var)[1:])
    if x.shape[1] % target[1] or x.shape[2] % target[2]:
        raise TargetError(f"no kernel for adaptive pooling of {x.shape} to {target}: the windows differ in size")
    window = (x.shape[1] // target[1], x.shape[2] // target[2])
    return x if window == (1, 1) else _average(reader, x, target, window)


def _mean(reader: Reader, call: Any, var: Any) -> Value:
    x, shape = reader.value(call.args[0]), _shape(var)
    if sorted(int(axis) % 4 for axis in call.attrs.axis) != [2, 3]:
        raise TargetError(f"no kernel for a mean over axes {list(call.attrs.axis)} of {x.shape}")
    return _average(reader, x, _chw(shape[1:]), x.shape[1:])


def _average(reader: Reader, x: Value, target: Shape, window: tuple[int, int]) -> Value:
    settings = {"kind": "avg", "kernel": window, "stride": window, "padding": (0, 0), "dilation": (1, 1),
                "count_padding": False}  # fmt: skip
    return reader.emit("pool", x, target, label="avgpool", settings=settings)


def _slice(reader: Reader, call: Any, var: Any) -> Value:
    x, axes = reader.value(call.args[0]), [int(a) % 4 for a in _tuple(call.args[1])]
    begin, steps = _tuple(call.args[2]), _tuple(call.args[4]) if len(call.args) > 4 else [1] * len(axes)
    offset, step = [0, 0, 0, 0], [1, 1, 1, 1]
    for axis, first, stride in zip(axes, begin, steps, strict=True):
        offset[axis], step[axis] = first % (1, *x.shape)[axis], stride
    if step[1] != 1 or offset[0] or min(step) < 1:
        raise TargetError(f"no kernel for a slice with steps {step} over (N, C, H, W)")
    settings = {"offset": tuple(offset[1:]), "step": tuple(step[2:]), "source": x.shape}
    return reader.emit("window", x, _chw(_shape(var)[1:]), label="slice", settings=settings)


def _pad(reader: Reader, call: Any, var: Any) -> Value:
    x, width = reader.value(call.args[0]), [int(w) for w in call.attrs.pad_width]
    if call.attrs.pad_mode != "constant" or float(call.attrs.pad_value) != 0 or len(width) != 8 or any(width[:2]):
        raise TargetError(f"no kernel for padding {width} of {x.shape} with {call.attrs.pad_mode} values")
    settings = {"offset": (-width[2], -width[4], -width[6]), "step": (1, 1), "source": x.shape}
    return reader.emit("window", x, _chw(_shape(var)[1:]), label="pad", settings=settings)


def _ints(values: Any) -> tuple[int, ...]:
    return tuple(int(value) for value in values)


def _is_number(expr: Any) -> bool:
    return isinstance(expr, Constant) and not _shape(expr)


def _number(expr: Any) -> float:
    """Return a constant of shape (), or a number among an operator's arguments."""
    return float(expr.value.numpy() if hasattr(expr.value, "numpy") else expr.value)


def _tuple(expr: Any) -> list[int]:
    fields = expr.fields if hasattr(expr, "fields") else expr.values
    return [int(getattr(item, "value", item)) for item in fields]


READERS: dict[str, Callable[[Reader, Any, Any], Any]] = {
    "relax.nn.conv2d": _conv,
    "relax.matmul": _dense,
    "relax.permute_dims": _transpose,
    "relax.nn.batch_norm": _norm,
    "relax.nn.max_pool2d": _pool,
    "relax.nn.avg_pool2d": _pool,
    "relax.nn.adaptive_avg_pool2d": _adaptive,
    "relax.mean": _mean,
    "relax.strided_slice": _slice,
    "relax.nn.pad": _pad,
    "relax.clip": _clip,
    **dict.fromkeys(SAME, _same),
    **dict.fromkeys(UNARY, _unary),
    **dict.fromkeys(BINARY, _binary),
}
