"""Low-rank layers that reconstruct the responses of the original ones (Zhang, Zou, He & Sun 2016, arXiv:1505.06798).

A kxk layer becomes kxk with fewer filters and 1x1; with ``three_d`` kx1, 1xk and 1x1; a dense layer becomes two. Layers
are processed in the order in which they run, each fitted to the original responses from the outputs of the approximated
layers before it (asymmetric reconstruction). The objective includes a ReLU that follows; at the end of a residual
branch it is the sum, without nonlinearity. No training; ``finetune`` may follow. Batch norms have to be folded first.
Skipped, with the reason: depthwise layers, layers that would not get cheaper, and compressed layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from torch import nn

from ...core.data.images import Pixels
from ...core.errors import InputError, RecipeError
from ...core.heap import released
from ...core.model import HashModel
from ...core.progress import track
from ...core.settings import check_fields
from ...modelfile.layers.factored import Factored, group_kernels
from ..allocate import bisect
from ..base import Context, Decision, Pass
from ..fold import Fold
from ..observe.external_reads import externally_read
from ..observe.followers import followers
from ..observe.macs import Costs, LayerCost, count
from ..observe.moments import activation_moments
from ..observe.sampling import choose
from ..select import check_keys, per_layer, skipped, weighted
from .cp_ranks import chain_cost
from .rebuild import SOLVERS, Sample, rebuild_layer
from .tensors import ranks
from .tensors.reconstruct import spectrum

RULES = ("speedup", "energy", "ranks")


@dataclass(frozen=True)
class LowRank(Pass):
    """Approximate layers by low rank; exactly one rule selects the ranks.

    ``speedup``: the multiply-accumulates of the whole network are divided by this, with the largest product of the
    retained energies of the layers. ``energy``: every layer keeps this share of the variance of its responses.
    ``ranks``: the number of filters, a table by layer. ``solver`` is ``nonlinear``, ``linear``, or ``filter``, which
    only uses the weights.

    Raises:
        RecipeError: A setting is out of range.
    """

    name: ClassVar[str] = "lowrank"
    phase: ClassVar[str] = "structure"
    without_images: ClassVar[str] = "solver = 'filter'"
    speedup: float | None = None
    energy: float | Mapping[str, float] | None = None
    ranks: int | Mapping[str, int] | None = None
    solver: str = "nonlinear"
    asymmetric: bool = True
    three_d: bool = False
    images: int = 1000
    places: int = 10
    skip: tuple[str, ...] = ("first", "head")

    def __post_init__(self) -> None:
        check_fields("lowrank", self, RecipeError)
        rules = [rule for rule in RULES if getattr(self, rule) is not None]
        problems = check_keys("lowrank: skip", self.skip)
        if len(rules) != 1:
            problems.append(
                f"lowrank: exactly one of {', '.join(RULES)} chooses the ranks, found {', '.join(rules) or 'none'}"
            )
        if self.solver not in SOLVERS:
            problems.append(f"lowrank: unknown solver {self.solver!r} (there are: {', '.join(SOLVERS)})")
        if self.speedup is not None and not 1 <= self.speedup < float("inf"):
            problems.append(f"lowrank: speedup must be at least 1, got {self.speedup}")
        problems += self._amounts()
        for name in ("images", "places"):
            if getattr(self, name) < 1:
                problems.append(f"lowrank: {name} must be at least 1, got {getattr(self, name)}")
        if self.three_d and self.speedup is None:
            problems.append("lowrank: three_d divides a speedup between two steps; give speedup")
        if problems:
            raise RecipeError(problems)

    def _amounts(self) -> list[str]:
        problems = []
        for key, share in _table(self.energy).items():
            if not 0 < share <= 1:
                problems.append(f"lowrank: energy of {key!r} must be above 0 and at most 1, got {share}")
        for key, rank in _table(self.ranks).items():
            if type(rank) is not int or not 1 <= rank < 1 << 16:
                problems.append(f"lowrank: ranks of {key!r} must be a whole number from 1 to 65535, got {rank!r}")
        return problems

    @property
    def needs_images(self) -> bool:
        """Whether training images are needed: to measure responses, unless the solver only uses the weights."""
        return self.solver != "filter"

    def decide(self, model: HashModel, context: Context) -> Decision:
        """Return form, ranks, and costs before and after, of each layer, and ``skipped``: layer -> reason.

        Raises:
            RecipeError: There are unfolded batch norms, or the speedup cannot be reached.
            InputError: Responses have to be measured and there are no images.
        """
        norms = Fold().decide(model, context).data["fold"]
        if norms:
            raise RecipeError(
                f"lowrank: fold batch norms first; {next(iter(norms))} and {len(norms) - 1} more are there"
            )
        costs, untreated = count(model), skipped(model.net)
        allowed = per_layer(True, model.net, self.skip)  # a set of layers, as a table
        layers, needed = {}, externally_read(model)
        for path, layer in weighted(model.net).items():
            if reason := _untreated(path, layer, allowed, costs.by_path) or needed.get(path):
                untreated[path] = reason
            else:
                layers[path] = layer
        energies = self._energies(model, layers, context)
        ranks = self._ranks(model, layers, costs, energies)
        chosen = {}
        for path, (form, rank) in ranks.items():
            before, layer = costs[path], layers[path]
            after = chain_cost(layer, form, rank, before.input, bias=self._adds_bias(layer))
            if after.macs >= before.macs:
                untreated[path] = f"rank {'x'.join(map(str, rank))} saves no multiplications"
                continue
            share = float(energies[path][: rank[-1]].sum() / max(energies[path].sum(), 1e-300))
            chosen[path] = {
                "form": form,
                "ranks": list(rank),
                "energy": round(share, 6),
                "macs": [before.macs, after.macs],
                "parameters": [before.parameters, after.parameters],
            }
        order = {layer.path: place for place, layer in enumerate(costs.layers)}
        in_order = dict(sorted(chosen.items(), key=lambda item: order[item[0]]))
        return Decision({"layers": in_order, "skipped": untreated})

    def apply(self, model: HashModel, decision: Decision, context: Context) -> HashModel:
        """Return the model with low-rank layers.

        Raises:
            RecipeError: There are unfolded batch norms, or the speedup cannot be reached.
            InputError: Responses have to be measured and there are no images.
        """
        layers = decision.data["layers"]
        sample, follow = None, {}
        if self.solver != "filter":
            sample = Sample(self._pixels(context), self.places, context.seed, self.asymmetric)
            follow = followers(model, sample.pixels)
        current, edits, lost = replace(model, net=model.copy_net(sharing=layers)), [], {}
        for path, plan in released(track(layers.items(), "rebuilding", len(layers))):
            adds = self._adds_bias(weighted(model.net)[path])
            edit = Factored(path, plan["form"], tuple(plan["ranks"]), bias=adds)
            share = rebuild_layer(model, current, edit, self.solver, follow.get(path, "none"), sample)
            lost[path] = round(share, 6)
            edits.append(edit)
        model.unshare_memory(
            current.net
        )  # a weight that two layers hold in common is still there when one was replaced
        figures = {"lost": lost} if sample is not None else {}
        return model.edited(current.net, edits, self.step(context.seed, **figures, left=decision.data["skipped"]))

    def _adds_bias(self, layer: Any) -> bool:
        """Return whether the chain gets a bias that the layer lacks: responses have a mean, weights alone do not."""
        return layer.bias is None and self.solver != "filter"

    def _pixels(self, context: Context) -> Pixels:
        return choose(context.training_split(self), self.images, context.seed)

    def _energies(self, model: HashModel, layers: Mapping[str, Any], context: Context) -> dict[str, np.ndarray]:
        """Return the eigenvalues of the covariance of the responses (or weights) of every layer, summed over groups."""
        if self.solver == "filter":
            kernels = {
                path: [part.reshape(len(part), -1) for part in group_kernels(layer)] for path, layer in layers.items()
            }
            return {
                path: np.sum([spectrum(part @ part.T) for part in parts], axis=0) for path, parts in kernels.items()
            }
        moments = activation_moments(model, self._pixels(context), list(layers), places=self.places, seed=context.seed)
        energies = {}
        for path, layer in layers.items():
            groups, moment = getattr(layer, "groups", 1), moments.pop(path)
            if groups == 1 and (products := moment.products) is not None:
                energies[path] = np.pad(spectrum(products), (0, moment.size - len(products)))
                continue
            covariance = moment.covariance
            size = len(covariance) // groups
            blocks = [covariance[at : at + size, at : at + size] for at in range(0, len(covariance), size)]
            energies[path] = np.sum([spectrum(block) for block in blocks], axis=0)
            del covariance, blocks
        return energies

    def _ranks(
        self, model: HashModel, layers: Mapping[str, Any], costs: Costs, energies: Mapping[str, np.ndarray]
    ) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Return form and ranks of each layer."""
        if self.energy is not None:
            shares = per_layer(self.energy, model.net, self.skip)
            return {
                path: ("lowrank", (ranks.by_energy(energies[path], shares[path]),)) for path in layers if path in shares
            }
        if self.ranks is not None:
            table = per_layer(self.ranks, model.net, self.skip)
            return {path: ("lowrank", (table[path],)) for path in layers if path in table}
        speedup = float(self.speedup or 1)
        channels = self._by_product(layers, costs, energies, speedup**0.5 if self.three_d else speedup)
        if not self.three_d:
            return {path: ("lowrank", (rank,)) for path, rank in channels.items()}
        return _spatial(layers, costs, channels, costs.macs / speedup)

    def _by_product(
        self, layers: Mapping[str, Any], costs: Costs, energies: Mapping[str, np.ndarray], speedup: float
    ) -> dict[str, int]:
        candidates = {
            path: ranks.RankCandidate(
                energies[path], chain_cost(layer, "lowrank", (1,), costs[path].input).macs, costs[path].macs
            )
            for path, layer in layers.items()
        }
        rest = costs.macs - sum(candidate.whole for candidate in candidates.values())
        try:
            return ranks.by_product(candidates, costs.macs / speedup - rest)
        except InputError as fault:
            least = rest + sum(candidate.cost(1) for candidate in candidates.values())
            raise RecipeError(
                f"lowrank: a speedup of {speedup:g} is out of reach: at rank 1 everywhere it is {costs.macs / least:.3g}"
            ) from fault


def _spatial(
    layers: Mapping[str, Any], costs: Costs, channels: Mapping[str, int], budget: float
) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return ranks of kx1, 1xk, 1x1 chains: all kxk parts shrink by one common factor, the least that meets the budget."""
    spatial = {
        path: rank
        for path, rank in channels.items()
        if isinstance(layers[path], nn.Conv2d) and min(layers[path].kernel_size) > 1
    }

    def plan(part: float) -> tuple[float, dict[str, tuple[str, tuple[int, ...]]]]:
        ranks: dict[str, tuple[str, tuple[int, ...]]] = {path: ("lowrank", (rank,)) for path, rank in channels.items()}
        for path, rank in spatial.items():
            layer, shape = layers[path], costs[path].input
            point = chain_cost(layer, "lowrank", (rank,), shape).layers[-1].macs
            limit = point + part * min(chain_cost(layer, "lowrank", (rank,), shape).macs - point, costs[path].macs)
            unit = chain_cost(layer, "lowrank3d", (1, rank), shape).macs - point
            width = layer.in_channels // layer.groups
            useful = min(width * layer.kernel_size[0], rank * layer.kernel_size[1])  # more between them adds nothing
            ranks[path] = ("lowrank3d", (min(max(1, int((limit - point) // unit)), useful), rank))
        after = {path: chain_cost(layers[path], *one, costs[path].input).macs for path, one in ranks.items()}
        saved = sum(max(costs[path].macs - macs, 0) for path, macs in after.items())
        return costs.macs - saved, ranks

    total, ranks = plan(bisect(lambda part: plan(part)[0] <= budget, 0.0, 1.0, rounds=14)[0])
    if total > budget:
        raise RecipeError(
            f"lowrank: the budget of {budget:,.0f} MACs is out of reach with three_d, the least is {total:,.0f}"
        )
    return ranks


def _untreated(path: str, layer: Any, allowed: Mapping[str, Any], costs: Mapping[str, LayerCost]) -> str:
    """Return why a layer is skipped, or an empty string."""
    if path not in allowed:
        return "skipped by the settings"
    if path not in costs or not costs[path].macs:
        return "it did not run"
    if isinstance(layer, nn.Conv2d) and layer.padding_mode != "zeros":
        return "not a convolution with zero padding"
    if isinstance(layer, nn.Conv2d) and layer.groups > 1 and layer.groups == layer.in_channels:
        return "a depthwise layer has no channels to merge"
    return ""


def _table(setting: Any) -> Mapping[str, Any]:
    if setting is None:
        return {}
    return setting if isinstance(setting, Mapping) else {"*": setting}
