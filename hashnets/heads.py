"""Heads: features (N, D) to real-valued outputs (N, bits) whose signs are the code."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


def linear(features: int, bits: int) -> nn.Linear:
    """Return one dense layer."""
    return nn.Linear(features, bits)


def standardize(net: nn.Module, head: nn.Linear, inputs: Tensor) -> None:
    """Scale and shift the new ``head`` of ``net``, in place, so that every bit has mean 0 and deviation 1 over ``inputs``.

    Pair losses stand still where all codes are equal, and features after a ReLU give nearly equal outputs at first.
    One batch of data sets the scale, as in LSUV (Mishkin & Matas 2016, arXiv:1511.06422).
    """
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # for dropout
        outputs = copy.deepcopy(net).train()(inputs)  # a copy, because batch norms keep statistics
        deviation, mean = torch.std_mean(outputs, dim=0)
        scale = 1 / deviation.clamp(min=1e-6)
        head.weight.mul_(scale[:, None])
        head.bias.copy_((head.bias - mean) * scale)
