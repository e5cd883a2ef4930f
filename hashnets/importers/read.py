"""Files of other people, opened without running anything in them: dotted names to tensors."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ...core.errors import CheckpointError

Tensors = dict[str, Tensor]

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "weights")
PREFIXES = ("module.", "model.", "net.", "backbone.", "0.")


def read_tensors(path: Path) -> Tensors:
    """Return the state dict in a file of torch (restricted to tensors) or safetensors, unwrapped and without prefixes.

    Raises:
        CheckpointError: no such file, damage, code inside, or something that is not a state dict.
    """
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}")
    with path.open("rb") as handle:
        start = handle.read(9)
    found = _safetensors(path) if start[8:9] == b"{" else _torch(path)
    tensors = _unwrapped(found, path)
    limit = path.stat().st_size
    for name, value in tensors.items():
        if value.numel() * value.element_size() > limit:
            raise CheckpointError(
                f"{path}: {name} claims a shape of {tuple(value.shape)}, more than the whole file holds"
            )
    return without_prefixes(tensors)


def without_prefixes(tensors: Tensors) -> Tensors:
    """Return ``tensors`` under shorter names while all of them share a prefix of wrapping modules."""
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in tensors):
            return without_prefixes({name.removeprefix(prefix): value for name, value in tensors.items()})
    return tensors


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
        raise CheckpointError(
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
    tensors = {name: value for name, value in found.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if not tensors or len(tensors) < len(found) / 2:
        raise CheckpointError(f"{path} holds {len(found)} entries, {len(tensors)} of them tensors: not a state dict")
    return tensors
