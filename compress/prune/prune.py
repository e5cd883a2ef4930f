"""Unstructured pruning by magnitude, sensitivity, or with compensation by the remaining weights (Han et al. 2015, arXiv:1506.02626).

Sources: Han et al. 2015 (arXiv:1506.02626) and 2016 (arXiv:1510.00149); OBC, Frantar & Alistarh 2022
(arXiv:2208.11580). After ``fold``, before ``share``. Zeros are symbols of the entropy coder of the file: no positions
are stored. Convolutions and dense layers are pruned; biases, norms and compressed layers are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch

from ...core.data.images import Pixels
from ...core.errors import HashpressError, RecipeError
from ...core.model import HashModel, Json
from ...core.settings import check_fields
from ...modelfile.edits import Pruned
from ..base import Context, Decision, Pass
from ..finetune.finetune import Finetune
from ..observe.sampling import choose
from ..select import check_keys, per_layer, skipped, weighted
from .compensate import COMPENSATIONS, ROWS, compensated, in_blocks, threshold, uncompensated, zeroed
from .densities import allocated, amounts, measured, predicted

SCOPES = ("layer", "global", "sensitivity")
MOST_STAGES = 1000


@dataclass(frozen=True)
class Prune(Pass):
    """Set the least important weights to zero.

    ``density`` is the share of weights to keep, a single value or a table by layer (names, ``re:`` patterns, ``first``,
    ``head``, ``conv``, ``dense``, ``*``). With ``scope = "global"`` it is the share of all weights under one threshold.
    With ``scope = "sensitivity"`` it is allocated to the layers so that the fewest bits flip, or as far as ``flips``,
    the share of bits that may flip, allows. ``q`` instead prunes below q standard deviations of each layer.
    ``compensate`` is ``none``; ``obs``, with compensation by the remaining weights block by block; or ``exact``, weight
    by weight (for large layers block by block; the ledger names them). Sensitivity and compensation use ``images``
    training images. ``stages`` > 1 prunes gradually, with ``finetune`` (its settings) after each stage.

    Raises:
        RecipeError: A setting is out of range.
    """

    name: ClassVar[str] = "prune"
    phase: ClassVar[str] = "values"
    keeps_layer_names: ClassVar[bool] = True
    refused_after: ClassVar[Mapping[str, str]] = {
        "share": "weights that share values cannot be pruned one by one; prune first, or let share pay for bits (lam)"
    }
    without_images: ClassVar[str] = "compensate = 'none', another scope and no finetune"
    density: float | Mapping[str, float] | None = None
    q: float | Mapping[str, float] | None = None
    flips: float | None = None
    scope: str = "layer"
    compensate: str = "none"
    images: int = 512
    skip: tuple[str, ...] = ()
    stages: int = 1
    finetune: Finetune | Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        check_fields("prune", self, RecipeError)
        problems = [*self._amounts(), *check_keys("prune: skip", self.skip)]
        for name, known in (("scope", SCOPES), ("compensate", COMPENSATIONS)):
            if getattr(self, name) not in known:
                problems.append(f"prune: unknown {name} {getattr(self, name)!r} (there are: {', '.join(known)})")
        if self.images < 1:
            problems.append(f"prune: images must be at least 1, got {self.images}")
        if self.stages < 1:
            problems.append(f"prune: stages must be at least 1, got {self.stages}")
        if self.stages > MOST_STAGES:
            problems.append(f"prune: stages must be at most {MOST_STAGES:,}, got {self.stages:,}")
        if self.stages > 1 and self.finetune is None:
            problems.append("prune: several stages need finetune between them")
        if isinstance(self.finetune, Mapping):
            try:
                object.__setattr__(self, "finetune", Finetune(**self.finetune))
            except (TypeError, HashpressError) as fault:
                problems.append(f"prune: {fault}")
        if problems:
            raise RecipeError(problems)

    def _amounts(self) -> list[str]:
        problems = []
        if sum(amount is not None for amount in (self.density, self.q, self.flips)) != 1:
            problems.append("prune: give one of density, q and flips")
        if self.scope == "global" and not isinstance(self.density, int | float):
            problems.append("prune: scope 'global' takes one density for all layers")
        if self.scope == "sensitivity" and (isinstance(self.density, Mapping) or self.q is not None):
            problems.append("prune: scope 'sensitivity' takes one density for all layers, or flips")
        if self.flips is not None:
            if not 0 <= self.flips < 0.5:
                problems.append(f"prune: flips must be in [0, 0.5), got {self.flips}")
            if self.scope != "sensitivity" or self.stages > 1:
                problems.append("prune: flips needs scope 'sensitivity' and one stage")
        for name, top in (("density", 1.0), ("q", 1e6)):
            table = _table(getattr(self, name))
            problems += check_keys(f"prune: {name}", list(table))
            for key, value in table.items():
                if not 0 <= value <= top:
                    problems.append(f"prune: {name} of {key!r} must be in [0, {top:g}], got {value}")
        return problems

    @property
    def needs_images(self) -> bool:
        """Whether training images are needed: to measure sensitivity, to compensate, to train between stages."""
        return self.compensate != "none" or self.scope == "sensitivity" or self.finetune is not None

    def without_training(self) -> Prune:
        """Return the pass in one stage, without training."""
        return replace(self, stages=1, finetune=None)

    def decide(self, model: HashModel, context: Context) -> Decision:
        """Return ``density`` per layer, ``threshold`` for pruning by magnitude, and ``skipped``: layer -> reason.

        ``flips`` is the share expected from the sensitivities. Several stages are treated as one.

        Raises:
            InputError: Sensitivity has to be measured and there are no images.
        """
        return self._decided(model, context, 1.0)

    def _decided(self, model: HashModel, context: Context, share: float) -> Decision:
        """Return the decision for a ``share`` of the way to the final density."""
        weights = {path: layer.weight.detach() for path, layer in weighted(model.net).items()}
        thresholds, more = self._thresholds(model, weights, context, share)
        kept = {path: round(_kept(weights[path], least), 6) for path, least in thresholds.items()}
        if self.compensate == "none":
            return Decision({"threshold": thresholds, "density": kept, **more, "skipped": skipped(model.net)})
        reasons = uncompensated(model, thresholds)
        if self.compensate == "exact":
            more["in_blocks"] = {
                path: reason for path in thresholds if path not in reasons and (reason := in_blocks(model.net, path))
            }
        return Decision({"density": kept, **more, "uncompensated": reasons, "skipped": skipped(model.net)})

    def _thresholds(
        self, model: HashModel, weights: Mapping[str, torch.Tensor], context: Context, share: float
    ) -> tuple[dict[str, float], dict[str, Json]]:
        """Return the threshold of each layer, and the expected flips if known."""
        if self.q is not None:
            thresholds = {}
            for path, factor in per_layer(self.q, model.net, self.skip).items():
                weight = weighted(model.net)[path].weight.detach()
                nonzero = weight[weight != 0]
                thresholds[path] = share * factor * float(nonzero.std(unbiased=False)) if len(nonzero) else 0.0
            return thresholds, {}
        if self.scope == "sensitivity":
            densities, flips = self._allocated(model, context, share)
            return {path: threshold([weights[path]], value) for path, value in densities.items()}, {"flips": flips}
        if self.scope == "global":
            paths = list(per_layer(True, model.net, self.skip))
            least = threshold([weights[path] for path in paths], self._at(_number(self.density), share))
            return dict.fromkeys(paths, least), {}
        densities = 1.0 if self.density is None else self.density
        return {
            path: threshold([weights[path]], self._at(amount, share))
            for path, amount in per_layer(densities, model.net, self.skip).items()
        }, {}

    def _allocated(self, model: HashModel, context: Context, share: float) -> tuple[dict[str, float], float]:
        """Return the density of each layer by its sensitivity, and the expected flips."""
        sizes = {path: weighted(model.net)[path].weight.numel() for path in per_layer(True, model.net, self.skip)}
        whole = None if self.density is None else self._at(_number(self.density), share)
        pixels = self._pixels(context)
        curves = measured(model, list(sizes), amounts(whole), self.compensate, pixels, context.seed)
        densities = allocated(sizes, curves, density=whole, flips=self.flips)
        return densities, round(predicted(sizes, curves, densities), 6)

    def _pixels(self, context: Context) -> Pixels:
        return choose(context.training_split(self), self.images, context.seed)

    def apply(self, model: HashModel, decision: Decision, context: Context) -> HashModel:
        """Return the pruned model, without retraining."""
        densities = decision.data["density"]
        if self.compensate == "none":
            net = zeroed(model, decision.data["threshold"])
        else:
            net = compensated(model, densities, self.compensate, self._pixels(context), context.seed)
        chosen = {"density": densities} if self.scope == "sensitivity" else {}
        return model.edited(net, (Pruned(tuple(densities)),), self.step(context.seed, **chosen))

    def execute(self, model: HashModel, decision: Decision, context: Context) -> tuple[HashModel, Decision]:
        """Return the pruned model, retrained after each stage if ``finetune`` is set, and the decision of the last stage."""
        result = model
        for stage in range(1, self.stages + 1):
            if self.stages > 1:
                decision = self._decided(result, context, stage / self.stages)
            result = self.apply(result, decision, context)
            if stage > 1:  # one line of history, and one edit, for all stages
                edits, history = (*model.edits, result.edits[-1]), (*model.history, result.history[-1])
                result = replace(result, edits=edits, history=history)
            if isinstance(self.finetune, Finetune):
                folder = None if context.work is None else context.work / f"stage{stage}"
                if folder is not None:
                    folder.mkdir(exist_ok=True)
                tuning = replace(context, reference=context.reference or model, work=folder)
                result = replace(result, net=self.finetune.run(result, tuning)[0].net)
        return result, decision

    def _at(self, density: float, share: float) -> float:
        """Return the density between 1 and ``density`` by geometric interpolation; zero is reached in the last stage."""
        return density if share == 1 else max(density, 1e-6) ** share


def _table(setting: float | Mapping[str, float] | None) -> Mapping[str, float]:
    if setting is None:
        return {}
    return setting if isinstance(setting, Mapping) else {"*": setting}


def _kept(weight: torch.Tensor, least: float) -> float:
    rows = weight.split(ROWS)
    kept = sum(int(torch.count_nonzero(part.abs() >= least if least > 0 else part)) for part in rows)
    return kept / max(weight.numel(), 1)


def _number(setting: float | Mapping[str, float] | None) -> float:
    return setting if isinstance(setting, int | float) else 1.0
