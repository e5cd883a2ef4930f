"""Rank selection for the decomposition of one convolution by each rule of the pass ``cp``."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from ...modelfile.layers.factored import Ranks, chain, group_kernels
from ..observe.macs import Costs, LayerCost, Shape, count_net
from .tensors import ranks, tucker
from .tensors.algebra import unfold
from .tensors.cpsearch import Search
from .tensors.decompose import Method, modes_of
from .tensors.evbmf import rank_hint

QUICK = Method(fit="als", epc=False, starts=1, sweeps=40)  # while a rank is being searched


@dataclass(frozen=True)
class Ranking:
    """A convolution, the form of its chain, its current cost, and whether the chain gets a bias that the layer lacks."""

    layer: nn.Conv2d
    form: str
    cost: LayerCost
    bias: bool = False

    def ranks(self, rule: str, amount: Any) -> Ranks:
        """Return the ranks selected by a rule without images; empty if no rank satisfies it."""
        kernels = group_kernels(self.layer)
        channels = kernels[0].shape[:2]
        if rule == "rank":
            pair = (amount, amount) if isinstance(amount, int) else tuple(amount)
            return self._clipped(pair, channels)
        if rule == "energy" and self.form == "tucker2":
            spectra = [tucker.spectra(kernel) for kernel in kernels]
            return tuple(max(ranks.by_energy(both[mode] ** 2, amount) for both in spectra) for mode in (0, 1))
        if rule == "hint":
            hints = [[rank_hint(unfold(kernel, mode)) for kernel in kernels] for mode in (0, 1)]
            return self._clipped(tuple(max(1, round(amount * max(hint))) for hint in hints), channels)
        steps, highest = self._steps(channels)
        if rule == "share":
            limit = amount * self.cost.parameters
            step = ranks.by_cost(lambda at: self.after(steps(at)).parameters, limit, highest)
            return steps(step) if step else ()
        searches = [Search(modes_of(kernel, self.form)) for kernel in kernels]
        step = ranks.by_damage(lambda at: max(one.error(at) for one in searches) ** 2, 1 - amount, highest)
        return steps(step) if step <= highest else ()

    def measured(self, trial: Callable[[Ranks, Method], float], limit: float, method: Method) -> tuple[Ranks, float]:
        """Return ranks at which ``trial`` measures at most ``limit`` with ``method``, and the measured value; empty if there are none.

        Quick fits only give an initial guess, since slower fits and small terms flip other bits.
        """
        steps, highest = self._steps(group_kernels(self.layer)[0].shape[:2])
        found: dict[int, float] = {}

        def really(at: int) -> float:
            found[at] = trial(steps(at), method)
            return found[at]

        guess = ranks.by_damage(lambda at: trial(steps(at), QUICK), limit, highest)
        step = ranks.by_guess(really, limit, guess, highest)
        return (steps(step), found[step]) if step <= highest else ((), math.nan)

    def after(self, found: Ranks) -> Costs:
        """Return the cost of the chain."""
        return chain_cost(self.layer, self.form, found, self.cost.input, bias=self.bias)

    def _clipped(self, pair: tuple[int, ...], channels: tuple[int, ...]) -> Ranks:
        if self.form != "tucker2":
            return (max(pair),)
        return tuple(min(rank, size) for rank, size in zip(pair, channels, strict=True))

    def _steps(self, channels: tuple[int, ...]) -> tuple[Any, int]:
        """Return a function from a step number to ranks, and the largest step that saves multiplications."""
        largest = max(channels)
        if self.form == "tucker2":

            def steps(at: int) -> Ranks:
                return tuple(-(-at * size // largest) for size in channels)
        else:
            largest *= int(np.prod(self.layer.kernel_size))

            def steps(at: int) -> Ranks:
                return (at,)

        return steps, ranks.by_cost(lambda at: self.after(steps(at)).macs, self.cost.macs - 1, largest)


def chain_cost(layer: nn.Conv2d | nn.Linear, form: str, ranks: Ranks, shape: Shape, *, bias: bool = False) -> Costs:
    """Return the cost of the chain in place of ``layer`` for an input of ``shape``.

    With ``bias``, the chain has a bias even if the layer has none.
    """
    memo = {id(value): nn.Parameter(torch.empty_like(value, device="meta")) for value in layer.parameters()}
    hollow = copy.deepcopy(layer, memo)  # type: ignore[arg-type]  # ids are what the memo is keyed by
    return count_net(chain(hollow, form, ranks, bias=bias or layer.bias is not None), shape)
