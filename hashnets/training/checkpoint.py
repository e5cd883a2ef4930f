"""Interrupted training: one safetensors file, rewritten whole after every epoch, from which a run goes on.

Random draws depend on the seed and the epoch alone, so nothing about generators needs to be kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ...core.errors import CheckpointError
from ...core.files import atomic_write
from ...core.model import Json
from ..systems.base import Objective

KEY = "hashpress-training"
NET, OBJECTIVE, OPTIMIZER = "net/", "objective/", "optimizer/"


def fingerprint(settings: Json, *states: Mapping[str, Tensor]) -> str:
    """Return a hash of the settings and values that a run starts from; it resumes only a run with the same."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for state in states:
        for name, value in state.items():
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save_state(
    path: Path,
    net: nn.Module,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    run: str,
    log: list[dict[str, Json]],
) -> None:
    """Write everything that the next epoch needs."""
    tensors = {NET + name: value for name, value in net.state_dict().items()}
    tensors |= {OBJECTIVE + name: value for name, value in objective.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        state_tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
        tensors |= {f"{OPTIMIZER}{index}/{name}": value for name, value in state_tensors.items()}
    metadata = {KEY: json.dumps({"run": run, "log": log})}
    content = safetensors.torch.save({name: value.contiguous() for name, value in tensors.items()}, metadata)
    with atomic_write(path) as handle:
        handle.write(content)


def load_state(
    path: Path, net: nn.Module, objective: Objective, optimizer: torch.optim.Optimizer, run: str
) -> list[dict[str, Json]]:
    """Put back what :func:`save_state` wrote and return the log so far.

    Raises:
        CheckpointError: a damaged file, or one of another network, schedule, seed or data set.
    """
    try:
        with safe_open(path, "pt") as handle:
            header = json.loads((handle.metadata() or {})[KEY])
        tensors = safetensors.torch.load_file(path)
    except (SafetensorError, KeyError, ValueError, OSError) as fault:
        raise CheckpointError(f"{path} is not a training checkpoint ({fault}); delete it to start anew") from fault
    if header["run"] != run:
        raise CheckpointError(
            f"{path} belongs to a run with another network, system, schedule, seed or data set; "
            "resume with the settings it was started with, or delete it to start anew"
        )
    net.load_state_dict(_under(NET, tensors))
    objective.load_state_dict(_under(OBJECTIVE, tensors))
    state: dict[int, dict[str, Tensor]] = {}
    weights = [value for group in optimizer.param_groups for value in group["params"]]
    for name, value in _under(OPTIMIZER, tensors).items():
        index, _, field = name.partition("/")
        weight = weights[int(index)]
        if value.shape == weight.shape:  # fused optimizers walk memory and take the weight's order for granted
            value = torch.empty_like(weight).copy_(value)  # noqa: PLW2901  # the same value in another order
        state.setdefault(int(index), {})[field] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return header["log"]


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
