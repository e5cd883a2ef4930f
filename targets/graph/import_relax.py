"""Relax to graph: one small converter per operator, in a literal table, as in TVM's own front ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from tvm import relax
from tvm.ir import Constant

from ...core.errors import TargetError
from .export import ExportedNet
from .graph import Graph, Node, Op, Tensor
from .operators import layer_of
from .parameters import Parameter, computed, product

Shape = tuple[int, int, int]  # of an activation: (C, H, W), of a vector (C, 1, 1)
UNARY = {"relax.nn.relu": "relu", "relax.tanh": "tanh", "relax.sigmoid": "sigmoid", "relax.nn.relu6": "relu6",
         "relax.sqrt": "sqrt", "relax.exp": "exp", "relax.abs": "abs", "relax.negative": "negative", "relax.round": "round"}  # fmt: skip
BINARY = {"relax.add": "add", "relax.subtract": "subtract", "relax.multiply": "multiply"}
ROLES = {"add": "bias", "multiply": "multiplier"}  # of a parameter with one number for each channel
SAME = {"relax.nn.dropout", "relax.reshape", "relax.flatten", "relax.squeeze", "relax.expand_dims"}


@dataclass
class Importer:
    """The state of one walk over a Relax function."""

    env: dict[Any, Any] = field(default_factory=dict)  # Relax variable -> Tensor or Parameter
    nodes: list[Node] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    stored: dict[str, Tensor] = field(default_factory=dict)  # activations as they lie in memory, whatever reshapes say

    def emit(self, kind: str, operand: Tensor, shape: tuple[int, ...], **fields: Any) -> Tensor:
        """Append a node named after its parameters' module or, without parameters, after its kind and a number."""
        parameters: dict[str, Parameter] = fields.pop("parameters", {})
        dtype: str = fields.pop("dtype", operand.dtype)
        operands = (operand, *fields.pop("others", ()))
        name = self._label(fields.pop("label", kind), [parameter.tensor.name for parameter in parameters.values()])
        output = f"v{len(self.nodes)}"
        seen = Tensor(output, dtype, shape)
        inputs = tuple(self.stored[tensor.name] for tensor in operands)
        if kind != "dense" and any(read.shape != tensor.shape for read, tensor in zip(inputs, operands, strict=True)):
            if kind != "pointwise":
                raise TargetError(f"{name}: no kernel for a {kind} on {inputs[0].shape} seen as {operand.shape}")
            if len(inputs) > 1 or parameters:
                flattened = next(
                    read.shape for read, tensor in zip(inputs, operands, strict=True) if read.shape != tensor.shape
                )
                raise TargetError(f"{name}: no kernel for it between a flattened image {flattened} and a dense layer")
            shape = inputs[0].shape  # element-wise operations do not mind
        self.stored[output] = Tensor(output, dtype, shape)
        tensors = {role: parameter.tensor for role, parameter in parameters.items()}
        self.nodes.append(Node(kind, name, inputs, self.stored[output], tensors, **fields))
        return seen

    def _label(self, label: str, parameters: list[str]) -> str:
        number = self.counts[label] = self.counts.get(label, 0) + 1
        return parameters[0].rpartition(".")[0] or parameters[0] if parameters else f"{label}{number}"

    def value(self, expr: Any) -> Any:
        """Return the tensor or parameter that an argument stands for."""
        if expr in self.env:
            return self.env[expr]
        raise TargetError(
            f"it computes with a constant of shape {_shape(expr)} that the model file does not hold; register it as a "
            "parameter or a buffer of numbers (batch norms: affine=True)"
        )


def import_relax(exported: ExportedNet) -> Graph:
    """Return the graph of an exported network.

    Raises:
        TargetError: an operator without a kernel, with the layer's name and shapes.
    """
    main, importer = exported.main, Importer()
    image = main.params[0]
    graph_input = Tensor("input", _dtype(image), _chw(_shape(image)[1:]))
    importer.env[image] = importer.stored["input"] = graph_input
    for parameter in main.params[1:]:
        tensor = Tensor(exported.names[parameter.name], _dtype(parameter), _shape(parameter))
        importer.env[parameter] = Parameter(tensor)
    sources: dict[str, str] = {}
    bindings = [binding for block in main.body.blocks for binding in block.bindings]
    for binding, node in zip(bindings, _operators(exported, bindings), strict=True):
        try:
            found = importer.env[binding.var] = _bind(importer, binding)
            _check_type(found, binding.var)
        except TargetError as fault:
            raise TargetError(f"{layer_of(node)}: {fault}" if node is not None else str(fault)) from fault
        result_of: Any = exported.nodes.get(binding.var.name)
        if isinstance(found, Tensor) and result_of is not None:
            sources.setdefault(found.name, result_of.name)
    result = importer.value(main.body.body)
    if not isinstance(result, Tensor):
        raise TargetError("the network's outputs do not depend on its input")
    layers = {node.name: layer_of(node) for node in exported.nodes.values()}
    return Graph(graph_input, importer.stored[result.name], tuple(importer.nodes), sources, layers)


def _operators(exported: ExportedNet, bindings: list[Any]) -> list[Any]:
    """Return the operator that each binding belongs to: several bindings may be steps of one, of which the last is its result."""
    node: Any = None
    found: list[Any] = []
    for binding in reversed(bindings):
        node = exported.nodes.get(binding.var.name, node)
        found.append(node)
    return found[::-1]


def _check_type(value: Any, var: Any) -> None:
    """Check that an activation is as TVM says: what broadcasts, and what has another type, is no element-wise operation."""
    if not isinstance(value, Tensor) or not hasattr(var.ty, "shape"):
        return
    shape = _shape(var)
    if not shape or shape[0] != 1 or _chw(shape[1:]) != value.shape or _dtype(var) != value.dtype:
        raise TargetError(
            f"no kernel for a result of shape {shape} and type {_dtype(var)} from operands of shape (1, C, H, W) or (1, C) "
            "and type float32; operands that broadcast must be parameters with one number a channel"
        )


def _bind(importer: Importer, binding: Any) -> Any:
    call = binding.value
    if isinstance(call, relax.Var | relax.DataflowVar):
        return importer.value(call)
    if isinstance(call, relax.TupleGetItem):
        return importer.value(call.tuple_value)
    if not isinstance(call, relax.Call):
        return None  # shapes, constants and tuples of arguments
    name = call.op.name
    if name not in CONVERTERS:
        shapes = ", ".join(str(_shape(arg)) for arg in call.args if arg in importer.env)
        raise TargetError(f"no kernel for {name} (inputs {shapes}); supported: {', '.join(sorted(CONVERTERS))}")
    if name not in OF_PARAMETERS and isinstance(operand := importer.value(call.args[0]), Parameter):
        raise TargetError(computed(operand, name.rpartition(".")[2]))
    return CONVERTERS[name](importer, call, binding.var)


def _shape(expr: Any) -> tuple[int, ...]:
    return tuple(int(extent) for extent in expr.ty.shape.values)


def _dtype(expr: Any) -> str:
    return str(expr.ty.dtype)


def _chw(shape: tuple[int, ...]) -> Shape:
    """Return a shape without its batch as (C, H, W)."""
    if len(shape) in (1, 3) or shape[1:] == (1,):
        return (*shape, 1, 1)[:3]  # type: ignore[return-value]
    raise TargetError(
        f"activations are images (C, H, W) or vectors (C,), found shape {shape} after the batch dimension"
    )


def _same(importer: Importer, call: Any, var: Any) -> Any:
    """Dropout at rest, and reshapes: of a parameter, or of an activation into a vector and back."""
    operand = importer.value(call.args[0])
    if call.op.name == "relax.nn.dropout":
        return operand
    shape = _shape(var)
    if isinstance(operand, Parameter):
        if operand.transposed and shape != _shape(call.args[0]):
            raise TargetError(f"no kernel for {operand.tensor.name} transposed and then reshaped to {shape}")
        return operand
    if shape[0] != 1 or (len(shape) not in (2, 4) and shape[2:] != (1,)):
        raise TargetError(f"no kernel for a reshape of {operand.shape} to {shape}")
    target = _chw(shape[1:])
    if target == operand.shape:
        return operand
    if len(shape) == 2:
        return replace(operand, shape=target)
    raise TargetError(f"no kernel for a reshape of {operand.shape} to {shape}")


def _transpose(importer: Importer, call: Any, _: Any) -> Any:
    operand = importer.value(call.args[0])
    rank = len(_shape(call.args[0]))
    axes = [int(axis) % rank for axis in call.attrs.axes] if call.attrs.axes is not None else list(range(rank))[::-1]
    if axes == list(range(rank)):
        return operand
    if isinstance(operand, Parameter) and rank == 2 and _shape(call.args[0]) in (operand.shape, operand.shape[::-1]):
        return replace(operand, transposed=not operand.transposed)
    raise TargetError(f"no kernel for a transpose of shape {operand.shape} to axes {axes}")


def _weight(importer: Importer, expr: Any, axes: int) -> Parameter:
    """Return a layer's weight, which the model file holds in the shape and order in which it is used."""
    weight = importer.value(expr)
    if not isinstance(weight, Parameter):
        raise TargetError("no kernel for a weight that is computed from activations")
    shape = _shape(expr)[::-1] if weight.transposed else _shape(expr)
    if weight.shape != shape or len(shape) != axes:
        raise TargetError(f"no kernel for {weight.tensor.name}, stored as {weight.shape}, as a weight of shape {shape}")
    return weight


def _scaled(importer: Importer, found: Tensor, weight: Parameter) -> Tensor:
    """Return what a layer gives, multiplied by the number its weight is multiplied with."""
    return found if weight.factor == 1 else _constant(importer, found, Op("scale", (weight.factor,)))


def _conv(importer: Importer, call: Any, var: Any) -> Tensor:
    x, weight = importer.value(call.args[0]), _weight(importer, call.args[1], 4)
    given = call.attrs
    padding = [int(p) for p in given.padding]
    if padding[:2] != padding[2:]:
        raise TargetError(f"{weight.tensor.name}: no kernel for uneven padding {padding}")
    attrs = {"kernel": weight.shape[2:], "stride": _ints(given.strides), "padding": tuple(padding[:2]),
             "dilation": _ints(given.dilation), "groups": int(given.groups)}  # fmt: skip
    shape, dtype = _chw(_shape(var)[1:]), _dtype(var)
    return _scaled(
        importer, importer.emit("conv", x, shape, parameters={"weight": weight}, attrs=attrs, dtype=dtype), weight
    )


def _dense(importer: Importer, call: Any, var: Any) -> Tensor:
    x, shapes = importer.value(call.args[0]), [_shape(arg) for arg in call.args]
    transposed = isinstance(importer.value(call.args[1]), Parameter) and importer.value(call.args[1]).transposed
    if not transposed or not isinstance(x, Tensor) or len(shapes[0]) != 2 or shapes[0][0] != 1:
        raise TargetError(f"no kernel for a product of shapes {shapes[0]} and {shapes[1]}; only dense layers of (1, C)")
    weight = _weight(importer, call.args[1], 2)
    shape, dtype = _chw(_shape(var)[1:]), _dtype(var)
    return _scaled(importer, importer.emit("dense", x, shape, parameters={"weight": weight}, dtype=dtype), weight)


def _norm(importer: Importer, call: Any, var: Any) -> Tensor:  # noqa: ARG001 - a tuple, of which only the first is used
    x, *values = (importer.value(arg) for arg in call.args)
    if int(call.attrs.axis) != 1 or any(not _per_channel(importer, arg, x) for arg in call.args[1:]):
        raise TargetError(
            f"no kernel for a batch norm of {x.shape} whose values are no parameters of one number a channel"
        )
    roles = dict(zip(("gamma", "beta", "mean", "variance"), values, strict=True))
    return importer.emit("pointwise", x, x.shape, parameters=roles, attrs={"epsilon": float(call.attrs.epsilon)})


def _per_channel(importer: Importer, expr: Any, x: Tensor) -> bool:
    """Tell whether an operand is a vector that the model file holds as it is, one number for each channel of ``x``."""
    value = importer.value(expr)
    return isinstance(value, Parameter) and value.factor == 1 and _shape(expr) == (x.shape[0],)


def _unary(importer: Importer, call: Any, _: Any) -> Any:
    x, name = importer.value(call.args[0]), UNARY[call.op.name]
    if isinstance(x, Parameter):
        if name == "negative":
            return replace(x, factor=-x.factor)
        raise TargetError(computed(x, name))
    return importer.emit("pointwise", x, x.shape, epilogue=(Op(name),), label=name)


def _leaky(importer: Importer, call: Any, _: Any) -> Tensor:
    return _constant(importer, importer.value(call.args[0]), Op("leaky_relu", (float(call.attrs.alpha),)))


def _clip(importer: Importer, call: Any, _: Any) -> Tensor:
    x, *limits = call.args
    return _constant(importer, importer.value(x), Op("clamp", tuple(_number(limit) for limit in limits)))


def _constant(importer: Importer, x: Any, op: Op) -> Tensor:
    if isinstance(x, Parameter):
        raise TargetError(computed(x, op.name))
    return importer.emit("pointwise", x, x.shape, epilogue=(op,), label=op.name)


def _binary(importer: Importer, call: Any, _: Any) -> Any:
    name = BINARY[call.op.name]
    operands: list[Any] = [_number(arg) if _is_number(arg) else importer.value(arg) for arg in call.args]
    exprs = list(call.args)
    if not isinstance(operands[0], Tensor) and name in ROLES:
        operands, exprs = operands[::-1], exprs[::-1]
    one, other = operands
    if not isinstance(one, Tensor) and not isinstance(other, Tensor):
        return product(name, one, other)
    if isinstance(one, float):
        return _constant(importer, _constant(importer, other, Op("negative")), Op("shift", (one,)))
    if isinstance(other, float):
        scales = name == "multiply"
        return _constant(importer, one, Op("scale" if scales else "shift", (-other if name == "subtract" else other,)))
    if isinstance(one, Tensor) and isinstance(other, Tensor) and one.shape == other.shape:
        return importer.emit("pointwise", one, one.shape, epilogue=(Op(name),), label=name, others=(other,))
    if isinstance(one, Tensor) and isinstance(other, Parameter) and name in ROLES:
        if other.factor != 1:
            raise TargetError(computed(other, "multiply"))
        rank, shape = len(_shape(exprs[0])), _shape(exprs[1])  # as they broadcast, from the last axis on
        aligned = (1,) * (rank - len(shape)) + shape
        if not other.transposed and aligned == (1, one.shape[0], 1, 1)[:rank]:
            return importer.emit("pointwise", one, one.shape, parameters={ROLES[name]: other})
    shapes = " and ".join(str(_shape(expr)) for expr in exprs)
    raise TargetError(f"no kernel for {name} of shapes {shapes}; a parameter must have one number a channel, (C, 1, 1)")


def _pool(importer: Importer, call: Any, var: Any) -> Tensor:
    x, given = importer.value(call.args[0]), call.attrs
    kind = "max" if "max" in call.op.name else "avg"
    if _ints(given.padding)[:2] != _ints(given.padding)[2:] or str(given.layout) != "NCHW":
        raise TargetError(f"no kernel for pooling with uneven padding {_ints(given.padding)}")
    attrs = {"kind": kind, "kernel": _ints(given.pool_size), "stride": _ints(given.strides),
             "padding": _ints(given.padding)[:2], "dilation": _ints(given.dilation),
             "count_padding": bool(given.count_include_pad)}  # fmt: skip
    return importer.emit("pool", x, _chw(_shape(var)[1:]), label=f"{kind}pool", attrs=attrs)


def _adaptive(importer: Importer, call: Any, var: Any) -> Tensor:
    x, target = importer.value(call.args[0]), _chw(_shape(var)[1:])
    if x.shape[1] % target[1] or x.shape[2] % target[2]:
        raise TargetError(f"no kernel for adaptive pooling of {x.shape} to {target}: the windows differ in size")
    window = (x.shape[1] // target[1], x.shape[2] // target[2])
    return x if window == (1, 1) else _average(importer, x, target, window)


def _mean(importer: Importer, call: Any, var: Any) -> Tensor:
    x, shape = importer.value(call.args[0]), _shape(var)
    rank = len(_shape(call.args[0]))
    if call.attrs.axis is None or rank != 4 or sorted(int(axis) % rank for axis in call.attrs.axis) != [2, 3]:
        raise TargetError(f"no kernel for a mean over axes {call.attrs.axis} of {x.shape}")
    return _average(importer, x, _chw(shape[1:]), x.shape[1:])


def _average(importer: Importer, x: Tensor, target: Shape, window: tuple[int, int]) -> Tensor:
    attrs = {"kind": "avg", "kernel": window, "stride": window, "padding": (0, 0), "dilation": (1, 1),
             "count_padding": False}  # fmt: skip
    return importer.emit("pool", x, target, label="avgpool", attrs=attrs)


def _slice(importer: Importer, call: Any, var: Any) -> Tensor:
    x, rank = importer.value(call.args[0]), len(_shape(call.args[0]))
    axes = [int(a) % rank for a in _tuple(call.args[1])]
    begin, steps = _tuple(call.args[2]), _tuple(call.args[4]) if len(call.args) > 4 else [1] * len(axes)
    offset, step = [0, 0, 0, 0], [1, 1, 1, 1]
    for axis, first, stride in zip(axes, begin, steps, strict=True):
        size = (1, *x.shape)[axis]  # begins before the first element count from there, as in Python
        offset[axis], step[axis] = max(first + size if first < 0 else first, 0), stride
    if step[1] != 1 or offset[0] or min(step) < 1:
        raise TargetError(f"no kernel for a slice with steps {step} over (N, C, H, W)")
    attrs = {"offset": tuple(offset[1:]), "step": tuple(step[2:])}
    return importer.emit("copy", x, _chw(_shape(var)[1:]), label="slice", attrs=attrs)


def _pad(importer: Importer, call: Any, var: Any) -> Tensor:
    x, width = importer.value(call.args[0]), [int(w) for w in call.attrs.pad_width]
    if call.attrs.pad_mode != "constant" or float(call.attrs.pad_value) != 0 or len(width) != 8 or any(width[:2]):
        raise TargetError(f"no kernel for padding {width} of {x.shape} with {call.attrs.pad_mode} values")
    attrs = {"offset": (-width[2], -width[4], -width[6]), "step": (1, 1)}
    return importer.emit("copy", x, _chw(_shape(var)[1:]), label="pad", attrs=attrs)


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


CONVERTERS: dict[str, Callable[[Importer, Any, Any], Any]] = {
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
    "relax.nn.leakyrelu": _leaky,
    **dict.fromkeys(SAME, _same),
    **dict.fromkeys(UNARY, _unary),
    **dict.fromkeys(BINARY, _binary),
}
OF_PARAMETERS = {"relax.permute_dims", *SAME, *UNARY, *BINARY}  # what may be applied to a weight, too
