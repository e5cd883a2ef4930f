"""Files of other people, opened without running anything in them: dotted names to tensors."""

from __future__ import annotations

import math
import pickle
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ...core.errors import CheckpointError
from .content import content_of

Tensors = dict[str, Tensor]

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "module", "state_dict_ema", "ema")
TRAINING = re.compile(
    r"optim|sched|scaler|ema|config|args", re.IGNORECASE
)  # what lies beside a network in a checkpoint
LARGEST = 1 << 28  # values of a sparse tensor as a dense one


class CodeInPickleError(CheckpointError):
    """The file is a pickle that names code."""


def read_tensors(path: Path) -> Tensors:
    """Return the state dict in a file of torch (restricted to tensors) or safetensors, unwrapped, as dense tensors.

    Raises:
        CheckpointError: no such file, damage, code inside, or something that is not a state dict.
    """
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}{': it is a folder' if path.is_dir() else ''}")
    check_content(path)
    try:
        with path.open("rb") as handle:
            start = handle.read(9)
        found = _safetensors(path) if start[8:9] == b"{" else _torch(path)
    except OSError as fault:
        raise CheckpointError(f"{path} cannot be read: {_first_line(fault)}") from fault
    tensors = _unwrapped(found, path)
    limit = path.stat().st_size
    return {name: _dense(name, value, path, limit) for name, value in tensors.items()}


def check_content(path: Path) -> None:
    """Raise CheckpointError where a file is something else than a checkpoint, such as a picture or an ONNX model."""
    try:
        content = content_of(path)
    except OSError as fault:
        raise CheckpointError(f"{path} cannot be read: {_first_line(fault)}") from fault
    if content is not None:
        raise CheckpointError(f"{path} is {content}; import takes a state dict saved by torch.save or safetensors")


def _dense(name: str, value: Tensor, path: Path, limit: int) -> Tensor:
    """Return ``value`` as a tensor that arithmetic takes: sparse ones filled, 8-bit floats as float32."""
    dtype = str(value.dtype).removeprefix("torch.")
    if value.device.type == "meta":
        raise CheckpointError(f"{path}: {name} has a shape and no values (saved on the meta device)")
    if value.layout != torch.strided:
        if value.is_nested or math.prod(value.shape) > LARGEST:
            raise CheckpointError(
                f"{path}: {name} is {str(value.layout).removeprefix('torch.')} of shape {tuple(value.shape)}, which is "
                "not supported; save dense weights"
            )
        value = _tried(value.to_dense, f"{path}: {name} is a {dtype} tensor of layout {value.layout}")
    elif not value.is_nested and value.numel() * value.element_size() > limit:
        raise CheckpointError(f"{path}: {name} claims a shape of {tuple(value.shape)}, more than the whole file holds")
    if value.is_nested:
        raise CheckpointError(f"{path}: {name} is a nested tensor, which is not supported; save dense weights")
    if value.is_floating_point() and value.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        value = _tried(lambda: value.to(torch.float32), f"{path}: {name} is {dtype}")
    return value.detach()


def _tried(convert: Callable[[], Tensor], what: str) -> Tensor:
    try:
        return convert()
    except (RuntimeError, TypeError, ValueError) as fault:
        raise CheckpointError(
            f"{what}, which is not supported ({_first_line(fault)}); save dense float32 weights"
        ) from fault


def _safetensors(path: Path) -> Tensors:
    try:
        with safe_open(path, "pt") as handle:
            if "hashpress" in (handle.metadata() or {}):
                raise CheckpointError(f"{path} is a model file of hashpress already; it needs no import")
            return {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118  # no mapping
    except SafetensorError as fault:
        raise CheckpointError(f"{path} is damaged: {fault}; fetch it again") from fault


def _torch(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about protocols; what matters is raised
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as fault:
        code = re.search(r"GLOBAL (\S+)|Unsupported operand (\d+)", str(fault))
        if code is None:
            raise CheckpointError(f"{path} is damaged or not a checkpoint ({_first_line(fault)})") from fault
        name = code[1] or f"opcode {code[2]}"
        raise CodeInPickleError(
            f"{path} is a pickle that may run code when it is opened ({name}) and was not opened; if you trust where "
            f"it comes from: hashpress import --unpickle {path}"
        ) from fault
    except Exception as fault:  # a hostile or cut-off pickle can make the unpickler fail in any way
        raise CheckpointError(
            f"{path} is damaged or not a checkpoint ({_first_line(fault)}); fetch it again"
        ) from fault


def _first_line(fault: Exception) -> str:
    return f"{type(fault).__name__}: {fault}".partition("\n")[0][:120]


def _unwrapped(found: Any, path: Path) -> Tensors:
    if not isinstance(found, Mapping):
        raise CheckpointError(f"{path} holds a {type(found).__name__}, not a state dict of names and tensors")
    for wrapper in WRAPPERS:
        if isinstance(found.get(wrapper), Mapping):
            return _unwrapped(found[wrapper], path)
    tensors = _tensors_of(found)
    if not tensors:
        parts = {
            key: inner
            for key, value in found.items()
            if isinstance(key, str) and isinstance(value, Mapping) and not TRAINING.search(key)
            if (inner := _tensors_of(value)) and 2 * len(inner) >= len(value)
        }
        if len(parts) == 1:
            return next(iter(parts.values()))
        if parts:  # encoder and hash layer saved side by side
            return {f"{key}.{name}": value for key, inner in parts.items() for name, value in inner.items()}
    if not tensors or len(tensors) < len(found) / 2:
        raise CheckpointError(f"{path} holds {len(found)} entries, {len(tensors)} of them tensors: not a state dict")
    return tensors


def _tensors_of(found: Mapping[Any, Any]) -> Tensors:
    return {name: value for name, value in found.items() if isinstance(name, str) and isinstance(value, Tensor)}
