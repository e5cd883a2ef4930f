"""Convolutions as chains of small ones by tensor decomposition of their kernels.

``order = 4``: 1x1, kx1, 1xk, 1x1 (Lebedev et al. 2015, arXiv:1412.6553). ``order = 3``: 1x1, kxk depthwise, 1x1 (Phan et
al. 2020, arXiv:2008.05441). ``order = "tucker"``: 1x1, kxk, 1x1 (Kim et al. 2016, arXiv:1511.06530). After ``fold``,
before ``finetune`` and the passes on values. Not treated, and listed with the reason: dense and 1x1 layers (``lowrank``
does them), depthwise layers, and layers whose chain would multiply as much as they do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
from torch import nn

from ...core.data.images import Pixels, Split
from ...core.errors import InputError, RecipeError
from ...core.model import HashModel, Json
from ...core.once import once
from ...core.progress import track
from ...core.settings import check_fields
from ...core.surgery import get_layer
from ...hashnets.codes import outputs
from ..calibrate import choose, patch_moments
from ..factored import Factored, chain_cost
from ..layers.factored import Ranks, fill, group_kernels
from ..macs import LayerCost, count
from ..tensors import cpd, ranks, tucker, whiten
from ..tensors.decompose import Decomposed, Method, decompose
from ..tensors.evbmf import rank_hint
from .select import check_keys, skipped, spread, weighted
from .step import step_of

FORMS: dict[int | str, str] = {3: "cp3", 4: "cp4", "tucker": "tucker2"}
RULES = ("rank", "energy", "share", "flips", "hint")
QUICK = Method(fit="als", epc=False, starts=1, sweeps=40)  # while a rank is being searched
Amount = float | Mapping[str, float]


@dataclass(frozen=True)
class Cp:
    """Replace convolutions of 3x3 and more; exactly one rule chooses the ranks, one value for all layers or a table.

    ``rank``: so many terms (``tucker``: a pair, outputs and inputs). ``energy``: the smallest rank that keeps this
    share of the kernel's squared norm. ``share``: the largest rank that keeps at most this share of the layer's
    parameters. ``flips``: the smallest rank at which replacing this layer alone flips at most this share of all bits on
    training images. ``hint``: this times the rank that variational Bayes finds above the noise.

    ``fit`` is ``nls``, ``als`` or ``greedy``; ``epc`` then makes the terms small at an error of ``1 + slack`` times the
    fit's; ``data`` fits to the responses on ``images`` training images and corrects the bias.

    Raises:
        RecipeError: a setting is out of range.
    """

    phase: ClassVar[str] = "structure"
    order: int | str = 3
    rank: int | tuple[int, ...] | Mapping[str, Any] | None = None
    energy: Amount | None = None
    share: Amount | None = None
    flips: Amount | None = None
    hint: Amount | None = None
    fit: str = "nls"
    epc: bool = True
    slack: float = 0.01
    data: bool = False
    images: int = 500
    sweeps: int = 100
    skip: tuple[str, ...] = ("first",)

    def __post_init__(self) -> None:
        check_fields("cp", self, RecipeError)
        given = [rule for rule in RULES if getattr(self, rule) is not None]
        problems = check_keys("cp: skip", self.skip)
        if len(given) != 1:
            found = ", ".join(given) or "none"
            problems.append(f"cp: exactly one of {', '.join(RULES)} chooses the ranks, found {found}")
        if self.order not in FORMS:
            problems.append(f"cp: order must be one of {', '.join(map(str, FORMS))}, got {self.order!r}")
        if self.fit not in cpd.METHODS:
            problems.append(f"cp: unknown fit {self.fit!r} (there are: {', '.join(cpd.METHODS)})")
        for rule in given:
            problems += _amounts(rule, getattr(self, rule), 2 if self.order == "tucker" else 1)
        for name, smallest in (("slack", 0), ("images", 1), ("sweeps", 1)):
            if not smallest <= getattr(self, name) < float("inf"):
                problems.append(f"cp: {name} must be at least {smallest}, got {getattr(self, name)}")
        if problems:
            raise RecipeError(problems)

    @once
    def decide(self, model: HashModel, split: Split | None = None, *, seed: int = 0) -> dict[str, Json]:
        """Return form, ranks and costs before and after of each layer, and ``left``: layer -> reason.

        Raises:
            InputError: ``flips`` is to be measured and there are no images.
        """
        rule = next(rule for rule in RULES if getattr(self, rule) is not None)
        amounts = spread(_as_table(getattr(self, rule)), model.net, self.skip)
        left, costs, chosen = skipped(model.net), count(model).by_path, {}
        damage = self._damage(model, split, seed) if rule == "flips" else None
        for path, layer in track(weighted(model.net).items(), "ranks"):
            if reason := _untreated(path, layer, amounts, costs):
                left[path] = reason
                continue
            one = _Layer(path, cast("nn.Conv2d", layer), FORMS[self.order], costs[path])
            found = one.ranks(rule, amounts[path], damage)
            after = chain_cost(layer, one.form, found, one.cost.input) if found else None
            if after is None or after.macs >= one.cost.macs:
                what = f"rank {_text(found)}" if found else "every rank that saves something"
                left[path] = f"{what} saves no multiplications" if found else f"{what} breaks the rule"
                continue
            chosen[path] = {
                "form": one.form,
                "ranks": list(found),
                "macs": [one.cost.macs, after.macs],
                "parameters": [one.cost.parameters, after.parameters],
            }
        return {"layers": chosen, "left": left}

    def __call__(
        self,
        model: HashModel,
        split: Split | None = None,
        *,
        seed: int = 0,
        reference: HashModel | None = None,  # noqa: ARG002  # as all passes
        work: Path | None = None,  # noqa: ARG002  # as all passes
    ) -> HashModel:
        """Return the model with chains in the place of convolutions.

        Raises:
            InputError: data are needed and there are none.
        """
        plan = self.decide(model, split, seed=seed)
        pixels = self._pixels(split, seed) if self.data else None
        method = Method(self.fit, self.epc, self.slack, sweeps=self.sweeps)
        net, edits, errors, swollen = model.copied_net(sharing=weighted(model.net)), [], {}, {}
        for path, decision in track(plan["layers"].items(), "decomposing", len(plan["layers"])):
            edit = Factored(path, decision["form"], tuple(decision["ranks"]))
            found = replace_layer(net, edit, method, model, pixels, seed)
            errors[path] = round(max(part.error for part in found), 5)
            swollen[path] = round(max(part.degeneracy for part in found), 3)
            edits.append(edit)
        model.unshared(net)  # last, since fits take as much memory as the network
        alarm = [path for path, value in swollen.items() if value > cpd.BOUND]
        figures = {"error": errors, "largest_term": swollen, "left": plan["left"]}
        return model.edited(
            net, edits, step_of("cp", self, seed, **figures, **({"degenerate": alarm} if alarm else {}))
        )

    def _pixels(self, split: Split | None, seed: int) -> Pixels:
        if split is None:
            raise InputError("cp with data or flips needs training images; name a data set with --data")
        return choose(split, self.images, seed)

    def _damage(self, model: HashModel, split: Split | None, seed: int) -> Any:
        """Return the share of bits that flip when one layer gets a form and ranks."""
        pixels = self._pixels(split, seed)
        before = outputs(model, pixels) >= 0

        def damage(path: str, form: str, found: Ranks) -> float:
            net, edit = model.copied_net(sharing=weighted(model.net)), Factored(path, form, found)
            replace_layer(net, edit, QUICK, model, pixels if self.data else None, seed)
            return float(np.mean((outputs(model.edited(net, (), step_of("trial", self)), pixels) >= 0) != before))

        return damage


def replace_layer(
    net: nn.Module, edit: Factored, method: Method, model: HashModel, pixels: Pixels | None, seed: int
) -> list[Decomposed]:
    """Apply ``edit`` to ``net`` and put values in; return the fit of each group. ``model`` is the network as it was."""
    layer: Any = get_layer(model.net, edit.layer)
    seen = _seen(model, pixels, edit.layer, seed) if pixels is not None else None
    found = []
    bias = layer.bias.detach().double().cpu().numpy() if layer.bias is not None else None
    shifts = []
    for place, kernel in enumerate(group_kernels(layer)):
        covariance, mean = seen[place] if seen else (None, None)
        part = decompose(kernel, edit.form, edit.ranks, method, covariance, seed=seed + place)
        found.append(part)
        shifts.append((kernel - part.kernel).reshape(len(kernel), -1) @ mean if seen else 0.0)
    if bias is not None and seen:
        bias = bias + np.concatenate(shifts)
    edit.apply(net)
    made: Any = get_layer(net, edit.layer)
    fill(made, list(zip(*(part.weights for part in found), strict=True)), bias)
    return found


def _seen(model: HashModel, pixels: Pixels, path: str, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return covariance and mean of every group's inputs; their sums are let go."""
    moments = patch_moments(model, pixels, path, seed=seed)
    return [(whiten.shrunk(part.covariance), part.mean) for part in moments]


@dataclass(frozen=True)
class _Layer:
    path: str
    layer: nn.Conv2d
    form: str
    cost: LayerCost

    def ranks(self, rule: str, amount: Any, damage: Any) -> Ranks:
        """Return the ranks that a rule chooses; none when no rank obeys it."""
        kernels = group_kernels(self.layer)
        channels = kernels[0].shape[:2]
        if rule == "rank":
            pair = (amount, amount) if isinstance(amount, int) else tuple(amount)
            return self._clipped(pair, channels)
        if rule == "energy" and self.form == "tucker2":
            spectra = [tucker.spectra(kernel) for kernel in kernels]
            return tuple(max(ranks.by_energy(both[mode] ** 2, amount) for both in spectra) for mode in (0, 1))
        if rule == "hint":
            hints = [[rank_hint(np.moveaxis(kernel, mode, 0).reshape(size, -1)) for kernel in kernels]
                     for mode, size in enumerate(channels)]  # fmt: skip
            return self._clipped(tuple(max(1, round(amount * max(hint))) for hint in hints), channels)
        steps, highest = self._steps(channels)
        if rule == "share":
            limit = amount * self.cost.parameters
            step = ranks.by_cost(lambda at: self.after(steps(at)).parameters, limit, highest)
            return steps(step) if step else ()
        if rule == "energy":
            step = ranks.by_damage(lambda at: self._lost(kernels, steps(at)), 1 - amount, highest)
        else:
            step = ranks.by_damage(lambda at: damage(self.path, self.form, steps(at)), amount, highest)
        return steps(step) if step <= highest else ()

    def after(self, found: Ranks) -> Any:
        """Return the cost of the chain."""
        return chain_cost(self.layer, self.form, found, self.cost.input)

    def _clipped(self, pair: tuple[int, ...], channels: tuple[int, ...]) -> Ranks:
        if self.form != "tucker2":
            return (max(pair),)
        return tuple(min(rank, size) for rank, size in zip(pair, channels, strict=True))

    def _steps(self, channels: tuple[int, ...]) -> tuple[Any, int]:
        """Return ranks by a number that grows, and the largest number that saves multiplications."""
        largest = max(channels)
        if self.form == "tucker2":

            def steps(at: int) -> Ranks:
                return tuple(-(-at * size // largest) for size in channels)
        else:
            largest *= int(np.prod(self.layer.kernel_size))

            def steps(at: int) -> Ranks:
                return (at,)

        return steps, ranks.by_cost(lambda at: self.after(steps(at)).macs, self.cost.macs - 1, largest)

    def _lost(self, kernels: list[np.ndarray], found: Ranks) -> float:
        return max(decompose(kernel, self.form, found, QUICK).error ** 2 for kernel in kernels)


def _untreated(path: str, layer: nn.Module, amounts: Mapping[str, Any], costs: Mapping[str, LayerCost]) -> str:
    """Return why a layer is left alone, or nothing."""
    if path not in amounts:
        return "skipped by the settings"
    if isinstance(layer, nn.Linear):
        return "a dense layer has no spatial axes; lowrank treats it"
    if not isinstance(layer, nn.Conv2d) or layer.padding_mode != "zeros":
        return "not a convolution with zero padding"
    if layer.kernel_size == (1, 1):
        return "a 1x1 layer has no spatial axes; lowrank treats it"
    if layer.groups == layer.in_channels and layer.groups > 1:
        return "a depthwise layer has nothing left to separate"
    if path not in costs or not costs[path].macs:
        return "it did not run"
    return ""


def _as_table(amount: Any) -> Any:
    return amount if isinstance(amount, Mapping) else {"*": amount}


def _amounts(rule: str, setting: Any, count: int) -> list[str]:
    """Return what is wrong with the values of a rule."""
    table = _as_table(setting)
    problems = check_keys(f"cp: {rule}", list(table))
    for key, amount in table.items():
        if rule == "rank":
            pair = tuple(amount) if isinstance(amount, list | tuple) else (amount,) * count
            if len(pair) != count or not all(type(rank) is int and 1 <= rank < 1 << 16 for rank in pair):
                problems.append(f"cp: rank of {key!r} must be {count} whole number(s) from 1 to 65535, got {amount!r}")
        elif not isinstance(amount, int | float) or not 0 < amount <= (4 if rule == "hint" else 1):
            problems.append(
                f"cp: {rule} of {key!r} must be above 0 and at most {4 if rule == 'hint' else 1}, got {amount}"
            )
    return problems


def _text(found: Ranks) -> str:
    return "x".join(map(str, found))
