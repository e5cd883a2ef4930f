"""The table of a network that is compiled into its runtime: steps, parameters, sizes and normalisation, as C."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

MAX_AXES = 8


def network_source(manifest: Mapping[str, Any]) -> str:
    """Return C source that defines ``hn_this_network`` for the bundle with this manifest."""
    spec, memory, target = manifest["input"], manifest["memory"], manifest["target"]
    channels, height, width = (*spec["shape"], 1, 1)[:3]
    scale = [np.float32(1.0 / (255.0 * std)) for std in spec["std"]]
    shift = [np.float32(-mean / std) for mean, std in zip(spec["mean"], spec["std"], strict=True)]
    lines = ['#include "network.h"', ""]
    for number, step in enumerate(manifest["steps"]):
        if step["tensors"]:
            rows = ",\n    ".join(_parameter(role, *what) for role, what in step["tensors"].items())
            lines.append(f"static const hn_parameter P{number}[] = {{\n    {rows}}};")
    steps = ",\n    ".join(_step(number, step) for number, step in enumerate(manifest["steps"]))
    needs = ", ".join([*(_text(name) for name in target["needs"]), "NULL"])
    lines += [
        f"static const hn_step STEPS[] = {{\n    {steps}}};",
        f"static const float SCALE[] = {{{_floats(scale)}}}, SHIFT[] = {{{_floats(shift)}}};",
        f"static const char *const NEEDS[] = {{{needs}}};",
        "const hn_network hn_this_network = {",
        f"    {_text(manifest['encoder'])}, {_text(target['name'])}, NEEDS, {manifest['bits']}, {channels}, {height},",
        f"    {width}, {len(manifest['steps'])}, {memory['activations']}ull, {memory['packed']}ull, SCALE, SHIFT, STEPS}};",
        "",
    ]
    return "\n".join(lines)


def _parameter(role: str, name: str, shape: list[int]) -> str:
    sides = ", ".join(str(side) for side in shape) or "0"
    return f"{{HASHNET_PACK_{role.upper()}, {_text(name)}, {len(shape)}, {{{sides}}}}}"


def _step(number: int, step: Mapping[str, Any]) -> str:
    return f"{{{_text(step['name'])}, {len(step['tensors'])}, {f'P{number}' if step['tensors'] else 'NULL'}}}"


def _floats(values: list[np.float32]) -> str:
    return ", ".join(f"{float(value).hex()}f" for value in values)


def _text(text: str) -> str:
    """Return a C string literal; octal escapes end by themselves."""
    plain = (chr(b) if 32 <= b < 127 and chr(b) not in '"\\?' else f"\\{b:03o}" for b in text.encode())
    return f'"{"".join(plain)}"'
