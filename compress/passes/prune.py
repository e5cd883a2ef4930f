"""Weights of small magnitude set to zero for good (Han et al. 2015, arXiv:1506.02626; Han et al. 2016, arXiv:1510.00149).

After ``fold``, before ``share``. The zeros are symbols of the file's coder: no positions are stored. Convolutions and
dense layers are treated; biases, norms and layers that are already in another form are left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from ...core.data.images import Split
from ...core.errors import HashpressError, RecipeError
from ...core.model import HashModel, Json
from ...core.surgery import get_layer
from ..edits import Pruned
from .finetune import Finetune
from .select import check_keys, skipped, spread, weighted
from .step import step_of

SCOPES = ("layer", "global")


@dataclass(frozen=True)
class Prune:
    """Keep the largest weights.

    ``density`` is the share that stays, one for all layers or a table by layer (names, ``re:`` patterns, ``first``,
    ``head``, ``conv``, ``dense``, ``*``); with ``scope = "global"`` it is the share of all weights together under one
    threshold. ``q`` prunes below q standard deviations of each layer instead. ``stages`` > 1 goes there in steps, with
    ``finetune`` (its settings) after each.

    Raises:
        RecipeError: a setting is out of range.
    """

    phase: ClassVar[str] = "values"
    density: float | Mapping[str, float] | None = None
    q: float | Mapping[str, float] | None = None
    scope: str = "layer"
    skip: tuple[str, ...] = ()
    stages: int = 1
    finetune: Finetune | Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        problems = [*self._amounts(), *check_keys("prune: skip", self.skip)]
        if self.scope not in SCOPES:
            problems.append(f"prune: unknown scope {self.scope!r} (there are: {', '.join(SCOPES)})")
        elif self.scope == "global" and not isinstance(self.density, int | float):
            problems.append("prune: scope 'global' takes one density for all layers")
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
        if (self.density is None) == (self.q is None):
            problems.append("prune: give either density or q")
        for name, top in (("density", 1.0), ("q", float("inf"))):
            table = _table(getattr(self, name))
            problems += check_keys(f"prune: {name}", list(table))
            for key, value in table.items():
                if not 0 <= value <= top:
                    problems.append(f"prune: {name} of {key!r} must be in [0, {top}], got {value}")
        return problems

    def decide(
        self,
        model: HashModel,
        split: Split | None = None,  # noqa: ARG002  # as all passes
        *,
        seed: int = 0,  # noqa: ARG002  # as all passes
        share: float = 1.0,
    ) -> dict[str, Json]:
        """Return ``threshold`` and ``density`` per layer, and ``left``: layer -> reason; ``share`` of the way there."""
        thresholds: dict[str, float] = {}
        magnitudes = {path: layer.weight.detach().abs() for path, layer in weighted(model.net).items()}
        if self.scope == "global":
            paths = list(spread(True, model.net, self.skip))
            everything = torch.cat([magnitudes[path].flatten() for path in paths]) if paths else torch.zeros(0)
            thresholds = dict.fromkeys(paths, quantile(everything, self._at(float(_number(self.density)), share)))
        elif self.density is not None:
            for path, density in spread(self.density, model.net, self.skip).items():
                thresholds[path] = quantile(magnitudes[path], self._at(density, share))
        elif self.q is not None:
            for path, factor in spread(self.q, model.net, self.skip).items():
                weight = weighted(model.net)[path].weight.detach()
                thresholds[path] = share * factor * float(weight[weight != 0].std(unbiased=False).nan_to_num())
        kept = {
            path: round(float((magnitudes[path] >= threshold).logical_and(magnitudes[path] > 0).float().mean()), 6)
            for path, threshold in thresholds.items()
        }
        return {"threshold": thresholds, "density": kept, "left": skipped(model.net)}

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
            thresholds = self.decide(result, share=stage / self.stages)["threshold"]
            result = original.edited(
                zeroed(result, thresholds), (Pruned(tuple(thresholds)),), step_of("prune", self, seed)
            )
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


@torch.no_grad()
def zeroed(model: HashModel, thresholds: Mapping[str, float]) -> torch.nn.Module:
    """Return a copy of the network without the weights below each layer's threshold."""
    net = model.copied_net()
    for path, threshold in thresholds.items():
        layer: Any = get_layer(net, path)
        layer.weight[layer.weight.abs() < threshold] = 0.0
    return net


def quantile(magnitudes: torch.Tensor, density: float) -> float:
    """Return the magnitude from which on ``density`` of all are kept; infinity when none are."""
    keep = round(density * magnitudes.numel())
    if keep == 0:
        return float("inf")
    return float(magnitudes.flatten().kthvalue(magnitudes.numel() - keep + 1).values)


def _table(setting: float | Mapping[str, float] | None) -> Mapping[str, float]:
    if setting is None:
        return {}
    return setting if isinstance(setting, Mapping) else {"*": setting}


def _number(setting: float | Mapping[str, float] | None) -> float:
    return setting if isinstance(setting, int | float) else 1.0
