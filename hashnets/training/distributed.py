"""Training on several devices: one process each, started by ``torchrun``, which share every batch.

Each process runs the network on its rows of the batch; outputs are gathered, so that every process sees the loss of the
whole batch, and gradients are averaged by ``DistributedDataParallel``. A run with several processes computes what one
would, but for batch norms, whose statistics are those of the rows of a process.
"""

from __future__ import annotations

import atexit
import os
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


def is_main_process() -> bool:
    """Return whether this process writes files and speaks to people: the only one, or the first under ``torchrun``."""
    return int(os.environ.get("RANK", "0")) == 0


@dataclass(frozen=True)
class Ranks:
    """One process among those that train one network."""

    rank: int = 0
    world: int = 1

    @classmethod
    def join(cls, device: torch.device) -> Ranks:
        """Return this process's place, after a handshake with the others that ``torchrun`` started."""
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls()
        if not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
            atexit.register(dist.destroy_process_group)
        return cls(dist.get_rank(), dist.get_world_size())

    def wrap(self, net: nn.Module) -> nn.Module:
        """Return what runs in training: the network, or the network with gradients averaged over processes."""
        return net if self.world == 1 else DistributedDataParallel(net)

    def rows(self, inputs: Tensor) -> Tensor:
        """Return this process's rows of a batch."""
        return inputs if self.world == 1 else inputs.tensor_split(self.world)[self.rank]

    def gather(self, outputs: Tensor, total: int) -> Tensor:
        """Return the outputs of all ``total`` rows of the batch; gradients flow into this process's own.

        Gradients are scaled such that their mean over the processes is the gradient of the whole batch.
        """
        return outputs if self.world == 1 else _Gather.apply(outputs, total, self)

    def average(self, parameters: list[nn.Parameter]) -> None:
        """Average the gradients of ``parameters`` over the processes, in place."""
        if self.world > 1:
            for value in parameters:
                if value.grad is not None:
                    dist.all_reduce(value.grad)
                    value.grad /= self.world

    def share(self, net: nn.Module) -> None:
        """Give every process the buffers, such as running statistics, of the first."""
        if self.world > 1:
            for value in net.buffers():
                dist.broadcast(value, 0)

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.world > 1:
            dist.barrier()


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, outputs: Tensor, total: int, ranks: Ranks) -> Tensor:
        sizes = [len(part) for part in torch.arange(total).tensor_split(ranks.world)]
        ctx.start, ctx.count, ctx.world = sum(sizes[: ranks.rank]), sizes[ranks.rank], ranks.world
        padded = outputs.new_zeros(max(sizes), *outputs.shape[1:])
        padded[: len(outputs)] = outputs
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return gradients[0][ctx.start : ctx.start + ctx.count] * ctx.world, None, None
