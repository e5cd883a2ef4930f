"""Weight sharing: one codebook per layer by k-means in one dimension (Han et al. 2016, arXiv:1510.00149).

After ``prune``; ``finetune`` may follow and trains the centres. Zero is entry 0 of every codebook and stays zero, so
that pruned weights stay pruned. With ``lam`` > 0, assignment and centres also minimise bits, zero included (Chou,
Lookabaugh & Gray 1989); the price is the same in all layers, which allocates bits to them. Biases and compressed layers
are not shared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize

from ...core.errors import HashpressError, RecipeError
from ...core.layers import get_layer, original
from ...core.model import HashModel
from ...core.progress import track
from ...core.settings import check_fields
from ...modelfile.coding import rate
from ...modelfile.layers.base import check_half_range, round_layer
from ...modelfile.layers.shared import Shared, SharedWeight
from ..base import Context, Decision, Pass
from ..finetune.finetune import Finetune
from ..observe.importance import output_energy, priced_at, relative
from ..select import check_keys, per_layer, skipped, weighted
from . import kmeans
from .straight_through import StraightThroughCodebook, attach_codebook, codebook_of, fit_budget

STARTS = (*kmeans.STARTS, "optimal")
IMPORTANCES = ("equal", "outputs")
CODEBOOKS = ("float16", "float32")
Errors = Callable[[str], np.ndarray]  # layer -> cost of a squared error of each weight, in units of ``lam``
MOVING = 0.5  # share of the epochs after which the thresholds are updated; then weights settle between them


@dataclass(frozen=True)
class Codebook:
    """The decision for one layer: centres (K,), zero first; indices of the shape of the weight; channel factors (O,) or None."""

    centres: np.ndarray
    indices: np.ndarray
    scale: np.ndarray | None

    @property
    def bits(self) -> float:
        """Bits of an ideal order-0 coder of the indices."""
        counts = np.array([np.count_nonzero(self.indices == entry) for entry in range(len(self.centres))])
        return rate.total_bits(counts)


@dataclass(frozen=True)
class SharePlan:
    """The codebooks by layer and, if they may still be trained, the cost of a squared error of each weight."""

    books: Mapping[str, Codebook]
    errors: Errors | None = None


@dataclass(frozen=True)
class Share(Pass):
    """Quantize every layer with a codebook of ``2 ** bits`` values besides zero.

    ``bits`` is one number or a table by layer (names, ``re:`` patterns, ``first``, ``head``, ``conv``, ``dense``,
    ``*``). ``start`` is the initialisation of k-means, or ``optimal`` for the exact optimum without a price on bits.
    ``scaled`` adds one factor per output channel. ``codebook`` is the precision of centres, factors and biases. ``lam``
    is the price of one bit, in units of the layers' mean energy per weight. ``importance = "outputs"`` weighs errors by
    their effect on the outputs, measured on training images. ``finetune`` (its settings) trains the weights with
    straight-through gradients before the final assignment; it needs ``lam``. ``bytes`` is then the size of all indices:
    after each epoch of the first half, the price is adjusted to reach it (weights settle within some per cent of it),
    and ``lam`` only determines the initial codebooks.

    Raises:
        RecipeError: A setting is out of range.
    """

    name: ClassVar[str] = "share"
    phase: ClassVar[str] = "values"
    without_images: ClassVar[str] = "importance = 'equal' and no finetune"
    bits: int | Mapping[str, int] = 5
    start: str = "linear"
    scaled: bool = False
    codebook: str = "float16"
    lam: float = 0.0
    importance: str = "equal"
    bytes: int | None = None
    skip: tuple[str, ...] = ()
    finetune: Finetune | Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        check_fields("share", self, RecipeError)
        table = self.bits if isinstance(self.bits, Mapping) else {"*": self.bits}
        problems = [*check_keys("share: bits", list(table)), *check_keys("share: skip", self.skip)]
        problems += [
            f"share: bits of {key!r} must be 1 to 12, got {bits}" for key, bits in table.items() if not 1 <= bits <= 12
        ]
        choices = {"start": STARTS, "importance": IMPORTANCES, "codebook": CODEBOOKS}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                problems.append(f"share: unknown {name} {getattr(self, name)!r} (there are: {', '.join(known)})")
        if not 0 <= self.lam < float("inf"):
            problems.append(f"share: lam must be at least 0, got {self.lam}")
        if self.importance != "equal" and not self.lam:
            problems.append("share: importance weighs errors against bits; it needs a price on bits, lam")
        if self.finetune is not None and not self.lam:
            problems.append("share: finetune inside share needs a price on bits, lam")
        if self.bytes is not None and (self.bytes < 1 or self.finetune is None):
            problems.append(f"share: bytes needs finetune inside share and at least 1, got {self.bytes}")
        if isinstance(self.finetune, Mapping):
            try:
                object.__setattr__(self, "finetune", Finetune(**self.finetune))
            except (TypeError, HashpressError) as fault:
                problems.append(f"share: {fault}")
        if problems:
            raise RecipeError(problems)

    @property
    def needs_images(self) -> bool:
        """Whether training images are needed: to measure importance, and to train."""
        return self.importance == "outputs" or self.finetune is not None

    def without_training(self) -> Share:
        """Return the pass without straight-through training."""
        return replace(self, finetune=None, bytes=None)

    def decide(self, model: HashModel, context: Context) -> Decision:
        """Return entries, zeros and estimated bytes of each layer, and ``skipped``: layer -> reason.

        Raises:
            InputError: Importance has to be measured and there are no images.
        """
        sizes = self._sizes(model.net)
        errors = self._errors(model, list(sizes), context)
        layers = weighted(model.net)
        books = {
            path: self._codebook(layers[path].weight.detach().numpy(), errors(path), bits, context.seed)
            for path, bits in track(sizes.items(), "codebooks", len(sizes))
        }
        return self._decision(model, SharePlan(books, errors if isinstance(self.finetune, Finetune) else None))

    def _decision(self, model: HashModel, plan: SharePlan) -> Decision:
        """Return the decision for these codebooks."""
        layers = {
            path: {
                "entries": len(book.centres),
                "zeros": round(float((book.indices == 0).mean()), 6),
                "bytes": round(book.bits / 8) + 2 * len(book.centres),
            }
            for path, book in plan.books.items()
        }
        return Decision({"layers": layers, "skipped": skipped(model.net)}, plan)

    def _sizes(self, net: nn.Module) -> dict[str, int]:
        """Return the bits of each layer to share; values have to fit the precision of the codebook."""
        sizes: dict[str, int] = per_layer(self.bits, net, self.skip)
        if self.codebook == "float16":
            for path in sizes:
                check_half_range(path, get_layer(net, path).parameters())
        return sizes

    def _errors(self, model: HashModel, paths: list[str], context: Context) -> Errors:
        """Return a function from a layer to the cost of a squared error of each weight, in units of ``lam``."""
        layers = weighted(model.net)
        if self.importance != "outputs":
            return lambda path: np.broadcast_to(relative(layers[path].weight), tuple(layers[path].weight.shape))
        pixels = context.training_split(self).train.values
        # errors of priced weights all point to zero and add up; the geometric mean with the relative error of the
        # layer, which assumes that they do, lost half as many bits at equal size (ResNet-20) as the energy alone
        costs = {path: np.sqrt(np.multiply(cost, relative(layers[path].weight), out=cost), out=cost)
                 for path, cost in output_energy(model, pixels, paths, seed=context.seed).items()}  # fmt: skip
        total = sum(priced_at(layers[path].weight, cost) for path, cost in costs.items())
        unit = max(total / max(sum(cost.size for cost in costs.values()), 1), 1e-30)
        for cost in costs.values():
            np.divide(cost, unit, out=cost)
        return lambda path: costs[path]

    def _codebook(self, weight: np.ndarray, moved: np.ndarray, bits: int, seed: int) -> Codebook:
        scale = self._scale(weight)
        chosen = kmeans.sample(weight)
        values, costs = scaled(weight, moved, scale, chosen)
        if not values.any():
            return Codebook(np.zeros(1), np.zeros(weight.shape, dtype=np.uint8), scale)
        lengths = None
        if self.lam > 0:
            centres, found = kmeans.priced(values, costs, 1 << bits, self.lam)
            lengths = rate.code_lengths(np.bincount(found, minlength=len(centres)))
        else:
            centres = np.concatenate([[0.0], kmeans.kmeans(values[values != 0], 1 << bits, self.start, seed)])
            found = kmeans.around_zero(values, centres)
        rounded = centres.astype(self.codebook).astype(np.float64)
        kind = np.uint8 if len(centres) <= 1 << 8 else np.int32
        if len(chosen) == weight.size:
            return Codebook(rounded, found.reshape(weight.shape).astype(kind), scale)
        indices = np.empty(weight.size, dtype=kind)
        for start in range(0, weight.size, kmeans.FIT):
            block = np.arange(start, min(start + kmeans.FIT, weight.size))
            values, costs = scaled(weight, moved, scale, block)
            if lengths is None:
                indices[block] = kmeans.around_zero(values, centres)
            else:
                indices[block] = kmeans.cheapest(values, costs, centres, self.lam * lengths)
        return Codebook(rounded, indices.reshape(weight.shape), scale)

    def _scale(self, weight: np.ndarray) -> np.ndarray | None:
        """Return the root mean square of each output channel, at the precision of the file."""
        if not self.scaled:
            return None
        rows = weight.reshape(len(weight), -1)
        scale = np.array([np.sqrt(np.mean(row.astype(np.float64) ** 2)) for row in rows])
        kept = scale.astype(self.codebook).astype(np.float64)
        return np.where(kept > 0, kept, 1.0)  # factors may be too small for the file though they are not zero

    def apply(self, model: HashModel, decision: Decision, context: Context) -> HashModel:
        """Return the model with shared weights."""
        return self._filled(model, model.copy_net(), decision.plan.books, context)

    def execute(self, model: HashModel, decision: Decision, context: Context) -> tuple[HashModel, Decision]:
        """Return the model and the decision, after straight-through training if ``finetune`` is set."""
        if not isinstance(self.finetune, Finetune):
            return self.apply(model, decision, context), decision
        net, books = self._trained(self.finetune, model, decision.plan.errors, context)
        return self._filled(model, net, books, context), self._decision(model, SharePlan(books))

    def _filled(self, model: HashModel, net: nn.Module, books: Mapping[str, Codebook], context: Context) -> HashModel:
        """Return the model of ``net`` with codebooks."""
        made = []
        for path, book in books.items():
            edit = Shared(path, len(book.centres), self.scaled, self.codebook == "float16")
            edit.apply(net)
            fill(path, get_layer(net, path), book)
            made.append(edit)
        return model.edited(net, made, self.step(context.seed))

    def _trained(
        self, tuning: Finetune, model: HashModel, errors: Errors, context: Context
    ) -> tuple[nn.Module, dict[str, Codebook]]:
        """Return the network and the codebooks after straight-through training."""
        sizes = self._sizes(model.net)
        net = model.copy_net()
        started: list[tuple[StraightThroughCodebook, torch.Tensor]] = []
        for path, bits in sizes.items():
            layer: Any = get_layer(net, path)
            weight, cost = layer.weight.detach(), errors(path)
            scale = self._scale(weight.numpy())
            if scale is not None:
                cost = cost * scale.reshape(-1, *[1] * (weight.ndim - 1)) ** 2
            attach_codebook(layer, StraightThroughCodebook(weight, scale, 1 << bits, float(cost.mean()), self.lam))
            started.append((codebook_of(layer), weight))
        if self.bytes is not None:
            fit_budget(started, self.lam, 8.0 * self.bytes)

        def set_price() -> None:
            layers = [get_layer(net, path) for path in sizes]
            pairs = [(codebook_of(layer), original(layer).detach().contiguous()) for layer in layers]
            for parametrization, _ in pairs:
                parametrization.epochs += 1
            if all(int(parametrization.epochs) <= MOVING * tuning.epochs for parametrization, _ in pairs):
                fit_budget(pairs, self.lam, None if self.bytes is None else 8.0 * self.bytes)

        tuning.train(net, model, context, end_epoch=set_price)
        books = {}
        for path in sizes:
            layer = get_layer(net, path)
            parametrization, weight = codebook_of(layer), original(layer).detach()
            centres, indices = parametrization.final_codebook(weight)
            if self.codebook == "float16":
                check_half_range(path, [torch.from_numpy(centres)])
            parametrize.remove_parametrizations(layer, "weight")
            rounded = centres.astype(self.codebook).astype(np.float64)
            books[path] = Codebook(
                rounded,
                indices.reshape(weight.shape),
                parametrization.scale.double().numpy().reshape(-1) if self.scaled else None,
            )
        return net, books


def scaled(
    weight: np.ndarray, moved: np.ndarray, scale: np.ndarray | None, chosen: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ``chosen`` weights divided by the factors of their channels, and the cost of their squared errors."""
    values, costs = weight.reshape(-1)[chosen].astype(np.float64), np.empty(len(chosen))
    rows, columns = np.divmod(chosen, weight[0].size)
    costs[:] = moved.reshape(len(weight), -1)[rows, columns] if moved.strides[-1] else moved.flat[0]
    return (values, costs) if scale is None else (values / scale[rows], costs * scale[rows] ** 2)


@torch.no_grad()
def fill(path: str, layer: Any, book: Codebook) -> None:
    """Set the values of a shared layer."""
    form: SharedWeight = layer.form
    form.codebook.copy_(torch.from_numpy(book.centres))
    form.indices.copy_(torch.from_numpy(book.indices))
    if book.scale is not None:
        form.scale.copy_(torch.from_numpy(book.scale))
    round_layer(path, layer)
