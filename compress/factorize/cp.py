"""Tensor decomposition of convolutions into chains of smaller ones (Lebedev et al. 2015, arXiv:1412.6553).

``order = 4``: 1x1, kx1, 1xk, 1x1 (Lebedev et al. 2015, arXiv:1412.6553). ``order = 3``: 1x1, kxk depthwise, 1x1 (Phan
et al. 2020, arXiv:2008.05441). ``order = "tucker"``: 1x1, kxk, 1x1 (Kim et al. 2016, arXiv:1511.06530). After ``fold``,
before ``finetune`` and the passes on values. Skipped, with the reason: dense and 1x1 layers (see ``lowrank``),
depthwise layers, and layers whose chain would not save multiplications.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, cast

import numpy as np
from torch import nn

from ...core.data.images import Pixels
from ...core.errors import RecipeError
from ...core.layers import get_layer
from ...core.model import HashModel
from ...core.progress import track
from ...core.settings import check_fields
from ...hashnets.retrieval.codes import outputs
from ...modelfile.layers.factored import Factored, fill, group_kernels
from ..base import Context, Decision, Pass
from ..observe.external_reads import externally_read
from ..observe.macs import LayerCost, count
from ..observe.moments import patch_moments
from ..observe.sampling import choose
from ..select import check_keys, per_layer, skipped, weighted
from .cp_ranks import Ranking
from .tensors import cpd, whiten
from .tensors.decompose import Decomposed, Method, decompose

FORMS: dict[int | str, str] = {3: "cp3", 4: "cp4", "tucker": "tucker2"}
RULES = ("rank", "energy", "share", "flips", "hint")
Amount = float | Mapping[str, float]


@dataclass(frozen=True)
class Cp(Pass):
    """Decompose convolutions of 3x3 and more. Exactly one rule selects the ranks; its value is one for all layers or a table.

    ``rank``: the rank (``tucker``: a pair, outputs and inputs). ``energy``: the smallest rank that keeps this share of
    the squared norm of the kernel. ``share``: the largest rank that keeps at most this share of the parameters of the
    layer. ``flips``: the smallest tested rank at which replacing this layer alone flips at most this share of all bits
    on training images. ``hint``: this multiple of the rank estimated by variational Bayes.

    ``fit`` is ``nls``, ``als`` or ``greedy``. ``epc`` then minimises the norm of the terms at an error of ``1 + slack``
    times that of the fit. ``data`` fits the responses on ``images`` training images and corrects the bias, which is
    added to layers without one. Terms of small norm reduce the responses, by 1/300 at an error of 0.3 and by a third at
    0.9: ``data`` restores them, and a smaller ``slack`` reduces them less.

    Raises:
        RecipeError: A setting is out of range.
    """

    name: ClassVar[str] = "cp"
    phase: ClassVar[str] = "structure"
    without_images: ClassVar[str] = "data = false, and another rule than flips"
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
        rules = [rule for rule in RULES if getattr(self, rule) is not None]
        problems = check_keys("cp: skip", self.skip)
        if len(rules) != 1:
            names = ", ".join(rules) or "none"
            problems.append(f"cp: exactly one of {', '.join(RULES)} chooses the ranks, found {names}")
        if self.order not in FORMS:
            problems.append(f"cp: order must be one of {', '.join(map(str, FORMS))}, got {self.order!r}")
        if self.fit not in cpd.METHODS:
            problems.append(f"cp: unknown fit {self.fit!r} (there are: {', '.join(cpd.METHODS)})")
        for rule in rules:
            problems += _amounts(rule, getattr(self, rule), 2 if self.order == "tucker" else 1)
        if not 0 <= self.slack <= 1:
            problems.append(f"cp: slack must be from 0 to 1, got {self.slack}")
        for name in ("images", "sweeps"):
            if not 1 <= getattr(self, name) < float("inf"):
                problems.append(f"cp: {name} must be at least 1, got {getattr(self, name)}")
        if problems:
            raise RecipeError(problems)

    @property
    def needs_images(self) -> bool:
        """Whether training images are needed: to count flipped bits, and to fit responses."""
        return self.data or self.flips is not None

    def decide(self, model: HashModel, context: Context) -> Decision:
        """Return form, ranks, and costs before and after, of each layer, and ``skipped``: layer -> reason.

        With ``flips``, also the measured share of flipped bits.

        Raises:
            InputError: Flips have to be measured and there are no images.
        """
        rule = next(rule for rule in RULES if getattr(self, rule) is not None)
        amounts = per_layer(_as_table(getattr(self, rule)), model.net, self.skip)
        untreated, costs, chosen = skipped(model.net), count(model).by_path, {}
        trial, needed = self._trial(model, context) if rule == "flips" else None, externally_read(model)
        for path, layer in track(weighted(model.net).items(), "ranks"):
            if reason := _untreated(path, layer, amounts, costs) or needed.get(path):
                untreated[path] = reason
                continue
            adds = self.data and layer.bias is None
            one = Ranking(cast("nn.Conv2d", layer), FORMS[self.order], costs[path], bias=adds)
            measured = {}
            if trial is None:
                ranks = one.ranks(rule, amounts[path])
            else:
                ranks, share = one.measured(partial(trial, path, one.form), amounts[path], self._method)
                measured["flips"] = round(share, 6)
            after = one.after(ranks) if ranks else None
            if after is None or after.macs >= one.cost.macs:
                what = f"rank {_text(ranks)}" if ranks else "every rank that saves something"
                untreated[path] = f"{what} saves no multiplications" if ranks else f"{what} breaks the rule"
                continue
            chosen[path] = {
                "form": one.form,
                "ranks": list(ranks),
                "macs": [one.cost.macs, after.macs],
                "parameters": [one.cost.parameters, after.parameters],
                **measured,
            }
        return Decision({"layers": chosen, "skipped": untreated})

    def apply(self, model: HashModel, decision: Decision, context: Context) -> HashModel:
        """Return the model with decomposed convolutions.

        Raises:
            InputError: Images are needed and there are none.
        """
        layers = decision.data["layers"]
        pixels = self._pixels(context) if self.data else None
        net, edits, errors, swollen = model.copy_net(sharing=weighted(model.net)), [], {}, {}
        for path, plan in track(layers.items(), "decomposing", len(layers)):
            edit = self._edit(model, path, plan["form"], tuple(plan["ranks"]))
            fits = replace_layer(net, edit, self._method, model, pixels, context.seed)
            errors[path] = round(max(part.error for part in fits), 5)
            swollen[path] = round(max(part.degeneracy for part in fits), 3)
            edits.append(edit)
        model.unshare_memory(net)  # last, since fits take as much memory as the network
        alarm = [path for path, value in swollen.items() if value > cpd.BOUND]
        figures = {"error": errors, "largest_term": swollen, "left": decision.data["skipped"]}
        step = self.step(context.seed, **figures, **({"degenerate": alarm} if alarm else {}))
        return model.edited(net, edits, step)

    def _pixels(self, context: Context) -> Pixels:
        return choose(context.training_split(self), self.images, context.seed)

    @property
    def _method(self) -> Method:
        return Method(self.fit, self.epc, self.slack, sweeps=self.sweeps)

    def _edit(self, model: HashModel, path: str, form: str, ranks: tuple[int, ...]) -> Factored:
        """Return the edit of one layer; if means are corrected, a layer without a bias gets one."""
        return Factored(path, form, ranks, bias=self.data and weighted(model.net)[path].bias is None)

    def _trial(self, model: HashModel, context: Context) -> Callable[..., float]:
        """Return a function that measures the share of flipped bits if one layer is decomposed."""
        pixels = self._pixels(context)
        before = outputs(model, pixels) >= 0

        def trial(path: str, form: str, ranks: tuple[int, ...], method: Method) -> float:
            net, edit = model.copy_net(sharing=weighted(model.net)), self._edit(model, path, form, ranks)
            replace_layer(net, edit, method, model, pixels if self.data else None, context.seed)
            return float(np.mean((outputs(model.edited(net, (), self.step()), pixels) >= 0) != before))

        return trial


def replace_layer(
    net: nn.Module, edit: Factored, method: Method, model: HashModel, pixels: Pixels | None, seed: int
) -> list[Decomposed]:
    """Apply ``edit`` to ``net`` and set its values; return the fit of each group. ``model`` is the original network."""
    layer: Any = get_layer(model.net, edit.layer)
    moments = _input_moments(model, pixels, edit.layer, seed) if pixels is not None else None
    fits = []
    bias = layer.bias.detach().double().cpu().numpy() if layer.bias is not None else None
    if bias is None and edit.bias:
        bias = np.zeros(layer.out_channels)
    shifts = []
    for place, kernel in enumerate(group_kernels(layer)):
        covariance, mean = moments[place] if moments else (None, None)
        part = decompose(kernel, edit.form, edit.ranks, method, covariance, seed=seed + place)
        fits.append(part)
        shifts.append((kernel - part.kernel).reshape(len(kernel), -1) @ mean if moments else 0.0)
    if bias is not None and moments:
        bias = bias + np.concatenate(shifts)
    edit.apply(net)
    made: Any = get_layer(net, edit.layer)
    fill(made, list(zip(*(part.weights for part in fits), strict=True)), bias)
    return fits


def _input_moments(model: HashModel, pixels: Pixels, path: str, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return covariance and mean of the inputs of every group."""
    moments = patch_moments(model, pixels, path, seed=seed)
    return [(whiten.shrunk(part.covariance), part.mean) for part in moments]


def _untreated(path: str, layer: nn.Module, amounts: Mapping[str, Any], costs: Mapping[str, LayerCost]) -> str:
    """Return why a layer is skipped, or an empty string."""
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
    """Return the problems of the values of a rule."""
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


def _text(ranks: tuple[int, ...]) -> str:
    return "x".join(map(str, ranks))
