"""Whole-module pickles, converted in a process of their own to a file that holds tensors and nothing else.

Opening a pickle runs the code in it. The process keeps that code out of ours, but it is no sandbox: it can do whatever
the user can. Classes that are not installed are replaced by empty modules, because only their tensors are wanted.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from ...core.errors import CheckpointError
from ...core.files import atomic_write
from .read import check_content

WARNING = "opening a pickle runs the code in it, with your rights, in a process of its own"
TIMEOUT_S = 600


def convert(source: Path, output: Path) -> Path:
    """Write the tensors in the pickle ``source`` to the safetensors file ``output`` and return its path.

    Raises:
        CheckpointError: the file cannot be unpickled or holds no tensors.
    """
    if not source.is_file():
        raise CheckpointError(f"no checkpoint at {source}")
    check_content(source)
    command = [sys.executable, "-W", "ignore", "-m", __name__, str(source.resolve()), str(output.resolve())]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as fault:
        raise CheckpointError(f"{source}: unpickling took longer than {TIMEOUT_S} s and was stopped") from fault
    if done.returncode or not output.is_file():
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise CheckpointError(f"{source} cannot be unpickled: {reason}")
    return output


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Return the class, or an empty module of that name where it is not installed."""
        try:
            return super().find_class(module, name)
        except (ImportError, AttributeError):
            return type(name, (nn.Module,), {"__module__": module})


def _tensors(found: Any) -> dict[str, Tensor]:
    """Return the state dict of a module, or of the first module or state dict inside a mapping."""
    if isinstance(found, nn.Module):
        found = found.state_dict()
    if isinstance(found, dict):
        tensors = {str(name): value for name, value in found.items() if isinstance(value, Tensor)}
        if tensors:
            return {name: value.detach().contiguous().clone() for name, value in tensors.items()}
        for value in found.values():
            if isinstance(value, nn.Module | dict) and (inner := _tensors(value)):
                return inner
    return {}


def _main(source: str, output: str) -> None:
    reader = SimpleNamespace(Unpickler=_Unpickler, load=pickle.load, loads=pickle.loads, __name__="pickle")
    tensors = _tensors(torch.load(source, map_location="cpu", weights_only=False, pickle_module=reader))
    if not tensors:
        raise SystemExit("no tensors in it")
    with atomic_write(output) as handle:
        handle.write(safetensors.torch.save(tensors))


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2])
