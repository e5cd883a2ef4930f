"""The calling convention of a compiled library: the arguments of ``run`` and ``pack``, in their order.

The program generator declares these arguments, the Python runtime passes them, and :func:`header` writes them as C.
``run`` computes the steps ``first <= k < last`` for one image, so the whole network is one call without an interpreter,
and timing one step is the same call with a shorter range. ``pack`` writes the parameters of one step, as the model file
has them, in the order in which its kernel streams them; it is called once for every step with parameters, when a bundle
is opened.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ALIGNMENT = 64  # bytes: one cache line, on which vector loads and prefetches rely
ITEMSIZE = {"float32": 4, "int32": 4, "int8": 1, "uint8": 1}
ROLES = (
    "weight",
    "bias",
    "gamma",
    "beta",
    "mean",
    "variance",
    "multiplier",
)  # a step's tensors, in the order of ``pack``
TYPE_INT, TYPE_TENSOR = 1, 7  # tags of TVM's packed calls: an int64, a pointer to a DLTensor


def itemsize(dtype: str) -> int:
    """Return the bytes of one element."""
    return ITEMSIZE[dtype]


@dataclass(frozen=True)
class Argument:
    """One argument: a flat buffer of ``dtype``, or a number where ``align`` is 0."""

    name: str
    dtype: str
    align: int  # bytes
    about: str

    @property
    def is_buffer(self) -> bool:
        """Whether it is passed as a DLTensor."""
        return self.align > 0


def _buffer(name: str, about: str, align: int = ALIGNMENT) -> Argument:
    return Argument(name, "float32", align, about)


IMAGE = _buffer("image", "one normalised image, C x H x W")
OUTPUTS = _buffer("outputs", "the network's outputs; bit k of the code is outputs[k] >= 0")
WORKSPACE = _buffer("workspace", "activations; a range of steps reads what the ranges before it left")
PARAMETERS = _buffer("parameters", "packed parameters, written by pack")

RUN = (
    IMAGE,
    OUTPUTS,
    WORKSPACE,
    PARAMETERS,
    Argument("first", "int32", 0, "the first step to compute"),
    Argument("last", "int32", 0, "the step to stop before"),
)
PACK = (
    Argument("step", "int32", 0, "the step whose parameters are given"),
    *(_buffer(role, "as the model file has it; anything where the step has none", 4) for role in ROLES),
    PARAMETERS,
)
FUNCTIONS: dict[str, tuple[Argument, ...]] = {"run": RUN, "pack": PACK}


def buffer_bytes(manifest: Mapping[str, Any]) -> dict[str, int]:
    """Return the size of each buffer of ``run`` by name, of the bundle with this manifest."""
    image = math.prod(manifest["input"]["shape"]) * itemsize(IMAGE.dtype)
    outputs, memory = int(manifest["bits"]) * itemsize(OUTPUTS.dtype), manifest["memory"]
    return {
        IMAGE.name: image,
        OUTPUTS.name: outputs,
        WORKSPACE.name: int(memory["activations"]),
        PARAMETERS.name: int(memory["packed"]),
    }


def symbol(function: str) -> str:
    """Return the name of a function in the library's symbol table."""
    return f"__tvm_ffi_{function}"


def header() -> str:
    """Return the calling convention as a C11 header, which needs no header of TVM's."""
    lines = [*_PREAMBLE.splitlines(), ""]
    lines += [f"#define HASHNET_ALIGNMENT {ALIGNMENT} /* bytes, of every buffer of run */", ""]
    for name, arguments in FUNCTIONS.items():
        rows = [(argument.name, f"{_kind(argument)}: {argument.about}") for argument in arguments]
        lines += _enum(f"{name}_argument", rows, f"{name}_arguments")
        lines += [
            f"int32_t {symbol(name)}(void *self, const hashnet_any *arguments, int32_t count, hashnet_any *result);",
            "",
        ]
    return "\n".join([*lines, "#endif", ""])


def _kind(argument: Argument) -> str:
    return f"{argument.dtype} tensor" if argument.is_buffer else "int"


def _enum(name: str, rows: list[tuple[str, str]], count: str) -> list[str]:
    prefix = f"HASHNET_{name.removesuffix('_argument')}".upper()
    body = [f"    {prefix}_{key.upper()} = {number}, /* {about} */" for number, (key, about) in enumerate(rows)]
    return [f"enum hashnet_{name} {{", *body, f"    HASHNET_{count.upper()} = {len(rows)}", "};", ""]


_PREAMBLE = f"""\
/* How to call a compiled network. Generated from hashpress/targets/abi.py; do not edit. */
#ifndef HASHNET_ABI_H
#define HASHNET_ABI_H

#include <stdint.h>

/* DLPack's DLTensor; every tensor here is {{data, {{1, 0}}, 1, {{2, 32, 1}}, &length, 0, 0}}: flat float32 on the CPU. */
typedef struct {{
    void *data;
    struct {{ int32_t type, id; }} device;
    int32_t ndim;
    struct {{ uint8_t code, bits; uint16_t lanes; }} dtype;
    int64_t *shape, *strides;
    uint64_t byte_offset;
}} hashnet_tensor;

/* One argument of a packed call (TVMFFIAny): a tag, and a number or a pointer. */
typedef struct {{
    int32_t type;
    uint32_t zero;
    union {{ int64_t number; void *pointer; double real; }} value;
}} hashnet_any;

#define HASHNET_TYPE_INT {TYPE_INT}
#define HASHNET_TYPE_TENSOR {TYPE_TENSOR}

/* Both functions return 0, or not 0 after they have called TVMFFIErrorSetRaisedFromCStrParts. */"""
