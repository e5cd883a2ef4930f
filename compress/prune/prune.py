"""Weights set to zero for good: the smallest, or those that the others make up for best.

Sources: Han et al. 2015 (arXiv:1506.02626) and 2016 (arXiv:1510.00149); OBC, Frantar & Alistarh 2022 (arXiv:2208.11580).
After ``fold``, before ``share``. The zeros are symbols of the file's coder: no positions are stored. Convolutions and
dense layers are treated; biases, norms and layers that are already in another form are left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from ...core.data.images import Pixels, Split
from ...core.errors import HashpressError, InputError, RecipeError
from ...core.model import HashModel, Json
from ...core.once import once
from ...core.settings import check_fields
from ...modelfile.edits import Pruned
from ..base import step_of
from ..finetune.finetune import Finetune
from ..observe.sampling import choose
from ..select import check_keys, skipped, spread, weighted
from .compensate import COMPENSATIONS, ROWS, compensated, in_blocks, threshold, uncompensated, zeroed
from .densities import allocated, amounts, measured, predicted

SCOPES = ("layer", "global", "sensitivity")


@dataclass(frozen=True)
class Prune:
    """Keep the weights that matter most.

    ``density`` is the share that stays, one for all layers or a table by layer (names, ``re:`` patterns, ``first``,
    ``head``, ``conv``, ``dense``, ``*``). With ``scope = "global"`` it is the share of all weights together under one
    threshold; with ``scope = "sensitivity"`` it is spread over the layers so that the fewest bits flip, or as far as
    the bits that may flip (``flips``, a share) allow. ``q`` prunes below q standard deviations of each layer instead.
    ``compensate`` is ``none``; ``obs``, where the weights left make up for those that went, block by block; or
    ``exact``, weight by weight (layers for which that takes long, block by block; the ledger names them). Sensitivity and compensation look at
    ``images`` training images. ``stages`` > 1 goes there in steps, with ``finetune`` (its settings) after each.

    Raises:
        RecipeError: a setting is out of range.
    """

    phase: ClassVar[str] = "values"
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

    def decide(
        self, model: HashModel, split: Split | None = None, *, seed: int = 0, share: float = 1.0
    ) -> dict[str, Json]:
        """Return ``density`` per layer, ``threshold`` where magnitude decides, and ``left``: layer -> reason.

        ``share`` of the way there; ``flips`` are those that the sensitivities let expect.

        Raises:
            InputError: sensitivity or compensation without images.
        """
        if self.compensate != "none":
            self._pixels(split, seed)  # they will be needed
        weights = {path: layer.weight.detach() for path, layer in weighted(model.net).items()}
        thresholds, more = self._thresholds(model, weights, split, seed, share)
        kept = {path: round(_kept(weights[path], least), 6) for path, least in thresholds.items()}
        if self.compensate == "none":
            return {"threshold": thresholds, "density": kept, **more, "left": skipped(model.net)}
        reasons = uncompensated(model, thresholds)
        if self.compensate == "exact":
            more["in_blocks"] = {
                path: reason for path in thresholds if path not in reasons and (reason := in_blocks(model.net, path))
            }
        return {"density": kept, **more, "uncompensated": reasons, "left": skipped(model.net)}

    def _thresholds(
        self, model: HashModel, weights: Mapping[str, torch.Tensor], split: Split | None, seed: int, share: float
    ) -> tuple[dict[str, float], dict[str, Json]]:
        """Return the threshold of each layer, and the flips to expect where they are known."""
        if self.q is not None:
            thresholds = {}
            for path, factor in spread(self.q, model.net, self.skip).items():
                weight = weighted(model.net)[path].weight.detach()
                left = weight[weight != 0]
                thresholds[path] = share * factor * float(left.std(unbiased=False)) if len(left) else 0.0
            return thresholds, {}
        if self.scope == "sensitivity":
            densities, flips = self._allocated(model, split, seed, share)
            return {path: threshold([weights[path]], value) for path, value in densities.items()}, {"flips": flips}
        if self.scope == "global":
            paths = list(spread(True, model.net, self.skip))
            least = threshold([weights[path] for path in paths], self._at(_number(self.density), share))
            return dict.fromkeys(paths, least), {}
        asked = 1.0 if self.density is None else self.density
        return {
            path: threshold([weights[path]], self._at(amount, share))
            for path, amount in spread(asked, model.net, self.skip).items()
        }, {}

    @once
    def _allocated(
        self, model: HashModel, split: Split | None, seed: int, share: float
    ) -> tuple[dict[str, float], float]:
        """Return the density of each layer by its sensitivity, and the flips to expect."""
        sizes = {path: weighted(model.net)[path].weight.numel() for path in spread(True, model.net, self.skip)}
        whole = None if self.density is None else self._at(_number(self.density), share)
        curves = measured(model, list(sizes), amounts(whole), self.compensate, self._pixels(split, seed), seed)
        densities = allocated(sizes, curves, density=whole, flips=self.flips)
        return densities, round(predicted(sizes, curves, densities), 6)

    def _pixels(self, split: Split | None, seed: int) -> Pixels:
        if split is None:
            raise InputError(
                "prune with compensate or scope 'sensitivity' needs training images; name a data set with --data"
            )
        return choose(split, self.images, seed)

    def __call__(
        self,
        model: HashModel,
        split: Split | None = None,
        *,
        seed: int = 0,
        reference: HashModel | None = None,
        work: Path | None = None,
    ) -> HashModel:
        """Return the pruned model, retrained after each stage when ``finetune`` is set."""
        original, result = model, model
        for stage in range(1, self.stages + 1):
            decision = self.decide(result, split, seed=seed, share=stage / self.stages)
            if self.compensate == "none":
                net = zeroed(result, decision["threshold"])
            else:
                net = compensated(result, decision["density"], self.compensate, self._pixels(split, seed), seed)
            chosen = {"density": decision["density"]} if self.scope == "sensitivity" else {}
            result = original.edited(net, (Pruned(tuple(decision["density"])),), step_of("prune", self, seed, **chosen))
            if isinstance(self.finetune, Finetune):
                folder = None if work is None else work / f"stage{stage}"
                if folder is not None:
                    folder.mkdir(exist_ok=True)
                tuned = self.finetune(result, split, seed=seed, reference=reference or original, work=folder)
                result = HashModel(tuned.net, result.arch, result.edits, result.history)
        return result

    def _at(self, density: float, share: float) -> float:
        """Return the density on the way from 1 to ``density``, geometrically; zero is reached in the last stage."""
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
