"""Product quantization with error correction: Q-CNN (Wu et al. 2016, arXiv:1512.06473).

A pass on values, after folding, structured passes and their fine-tuning. Layers are quantized in the order in which
they run. Each starts from k-means on its weight. With images, ``sweeps`` of error correction then fit the responses of
the original network to the inputs from the layers already quantized, and set the bias. ``finetune`` after it trains the
codewords. Layers that would not become smaller are skipped. With ``lam`` > 0, the bits of the indices in the file are
part of the objective (Chou, Lookabaugh & Gray 1989), which makes more entries than the index width allows worthwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ...core.data.images import Pixels
from ...core.errors import RecipeError
from ...core.heap import give_back, released
from ...core.layers import get_layer
from ...core.model import HashModel
from ...core.progress import track
from ...core.settings import check_fields
from ...modelfile.decode.hashing import layer_seed
from ...modelfile.layers.base import round_layer
from ...modelfile.layers.codeword_grid import on_grid
from ...modelfile.layers.densify import decoded_once
from ...modelfile.layers.pq import MAX_ENTRIES, ProductQuantized, dense_weight
from ..base import Context, Decision, Pass
from ..observe.hooks import calls
from ..observe.layer_io import LayerSamples, SampledOutputs, collect
from ..select import check_keys, per_layer, skipped, weighted
from . import pq_kmeans, pq_rate
from .pq_correct import DECODED, correct

PRECISIONS = ("float16", "float32")
WIDTH: Mapping[str, int] = {"conv": 8, "dense": 3}
ENTRIES: Mapping[str, int] = {"conv": 128, "dense": 32}


@dataclass(frozen=True)
class ProductQuantize(Pass):
    """Quantize sub-vectors of ``width`` channels with ``entries`` codewords; each is one number or a table by layer.

    ``sweeps`` of error correction use ``samples`` training images; 0 keeps the result of k-means. ``permute`` first
    searches for a better order of the channels. ``lam`` is the price of one bit, in units of the mean energy per weight
    of the layer (in error correction: of its responses' energy per weight), one number or a table by layer; codewords
    then lie on a grid whose step follows from the price.

    Raises:
        RecipeError: A setting is out of range.
    """

    name: ClassVar[str] = "pq"
    phase: ClassVar[str] = "values"
    without_images: ClassVar[str] = "sweeps = 0"
    width: int | Mapping[str, int] = 0
    entries: int | Mapping[str, int] = 0
    sweeps: int = 5
    samples: int = 2000
    damping: float = 0.001
    permute: bool = False
    precision: str = "float16"
    lam: float | Mapping[str, float] = 0.0
    skip: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fields("pq", self, RecipeError)
        problems = check_keys("pq: skip", self.skip)
        for name, least, most in (("width", 1, 64), ("entries", 2, MAX_ENTRIES)):
            table = self.table(name)
            problems += check_keys(f"pq: {name}", list(table))
            problems += [
                f"pq: {name} of {key!r} must be {least} to {most}, got {value}"
                for key, value in table.items()
                if not least <= value <= most
            ]
        problems += check_keys("pq: lam", list(self.prices))
        problems += [
            f"pq: lam of {key!r} must be at least 0, got {value}"
            for key, value in self.prices.items()
            if not 0 <= value < float("inf")
        ]
        for name, least in (("sweeps", 0), ("samples", 1), ("damping", 0)):
            if not least <= getattr(self, name) < float("inf"):
                problems.append(f"pq: {name} must be at least {least}, got {getattr(self, name)}")
        if self.precision not in PRECISIONS:
            problems.append(f"pq: unknown precision {self.precision!r} (there are: {', '.join(PRECISIONS)})")
        if problems:
            raise RecipeError(problems)

    def table(self, name: str) -> Mapping[str, int]:
        """Return ``width`` or ``entries`` by layer; 0 selects the settings of the paper."""
        value = getattr(self, name)
        if isinstance(value, Mapping):
            return value
        return {"*": value} if value else {"width": WIDTH, "entries": ENTRIES}[name]

    @property
    def prices(self) -> Mapping[str, float]:
        """``lam`` by layer."""
        return self.lam if isinstance(self.lam, Mapping) else {"*": self.lam}

    @property
    def needs_images(self) -> bool:
        """Whether training images are needed: for error correction."""
        return self.sweeps > 0

    def decide(self, model: HashModel, context: Context) -> Decision:
        """Return subspaces, width, entries and bytes before entropy coding of each layer, and ``skipped``: layer -> reason."""
        widths: dict[str, int] = per_layer(self.table("width"), model.net, self.skip)
        entries: dict[str, int] = per_layer(self.table("entries"), model.net, self.skip)
        prices: dict[str, float] = per_layer(self.prices, model.net, self.skip)
        layers, untreated = {}, skipped(model.net)
        plain = weighted(model.net)
        for path, layer in plain.items():
            if path not in widths or path not in entries:
                continue
            shape = tuple(layer.weight.shape)
            if isinstance(layer, nn.Conv2d) and isinstance(layer.padding, str):
                untreated[path] = f"padding {layer.padding!r}"
            if path in untreated:
                continue
            width = min(widths[path], shape[1])
            size = layout(shape, width, entries[path], value_bytes=2 if self.precision == "float16" else 4)
            if size.total >= 4 * layer.weight.numel():
                untreated[path] = (
                    f"codewords and indices of {size.total} bytes would replace {4 * layer.weight.numel()}"
                )
                continue
            layers[path] = {
                "subspaces": -(-shape[1] // width),
                "width": width,
                "entries": entries[path],
                "bytes": size.total,
                "seed": layer_seed(context.seed, path),
                **({"lam": prices[path]} if prices.get(path) else {}),
            }
        return Decision({"layers": layers, "skipped": untreated})

    def apply(self, model: HashModel, decision: Decision, context: Context) -> HashModel:
        """Return the model with quantized layers."""
        plans = decision.data["layers"]
        net, made, errors = model.copy_net(sharing=plans), [], {}
        original = model.net.eval()
        pixels = self._pixels(context)
        called = calls(net, plans, model.arch.input)
        ran = list(dict.fromkeys(path for path, _ in called))
        seeds = {path: plans[path]["seed"] for path in ran}
        targets = SampledOutputs(original, called, pixels, model.arch.input, seeds)
        for path in released(
            track([*ran, *(path for path in plans if path not in ran)], "product quantization", len(plans))
        ):
            plan = plans[path]
            weight: Any = get_layer(net, path).get_parameter("weight").detach()
            weight = weight if weight.ndim == 4 else weight[:, :, None, None]
            order = pq_kmeans.channel_order(weight, plan["width"], seed=plan["seed"]) if self.permute else None
            price = plan.get("lam", 0.0) * float(weight.norm()) ** 2 / weight.numel()
            codebook, indices = self._codewords(weight, order, plan, price)
            edit = ProductQuantized(
                path, weight.shape[1], plan["width"], codebook.shape[1], self.permute, self.precision == "float16"
            )
            bias = responses = found = None
            if self.sweeps and path in ran:
                with decoded_once(net):
                    responses = collect(
                        original, net, path, pixels, model.arch.input, order=order, seed=plan["seed"], targets=targets
                    )  # fmt: skip
                give_back()
                found = correct(
                    responses, codebook, indices.flatten(2),
                    sweeps=self.sweeps, damping=self.damping, lam=plan.get("lam", 0.0),
                )  # fmt: skip
                codebook, indices = found.codebook, found.indices.view_as(indices)
                errors[path] = [round(found.errors[0], 6), round(found.errors[-1], 6)]
                bias = responses
                if price:
                    codebook = on_grid(
                        codebook, pq_rate.grid_step(price, codebook.shape[1] / indices[0].numel())
                    )  # fmt: skip
            edit.apply(net)
            made.append(edit)
            fill(path, get_layer(net, path), codebook, indices, order, bias)
            del weight, codebook, indices, bias, responses, found  # of a large layer they are as large as the network
            get_layer(net, path).train()  # until the network is done: it decodes, which here is faster than looking up
        step = self.step(context.seed, left=decision.data["skipped"], response_errors=errors)
        return model.edited(net, made, step)

    def _pixels(self, context: Context) -> Pixels:
        if context.split is None:
            return np.empty((0, 1, 1, 1), dtype=np.uint8)
        train = context.split.train
        count = min(self.samples, len(train))
        chosen = np.random.default_rng(context.seed).choice(len(train), count, replace=False)
        return train.select(np.sort(chosen))

    def _codewords(
        self, weight: Tensor, order: Tensor | None, plan: Mapping[str, Any], price: float
    ) -> tuple[Tensor, Tensor]:
        """Return codewords (M, K, C) and indices (M, O, kH, kW) of k-means, or of entropy-constrained quantization."""
        points = pq_kmeans.subvectors(weight if order is None else weight[:, order], plan["width"])
        entries, iterations = min(plan["entries"], points.shape[1]), 12 if self.sweeps else 40
        if price:
            codebook, labels = pq_rate.priced(points, entries, price, seed=plan["seed"])
        else:
            codebook, labels = pq_kmeans.kmeans(points, entries, seed=plan["seed"], iterations=iterations)
        return codebook, labels.view(len(points), weight.shape[0], *weight.shape[2:])


@torch.no_grad()
def fill(
    path: str, layer: Any, codebook: Tensor, indices: Tensor, order: Tensor | None, responses: LayerSamples | None
) -> None:
    """Set codewords, indices and order of a product-quantized layer, and the bias that restores the mean of ``responses``."""
    form = layer.form
    codebook, indices = pq_kmeans.canonical(codebook, indices)
    form.codebook.copy_(codebook)
    form.indices.copy_(indices.view_as(form.indices))
    if order is not None:
        form.order.copy_(order)
    round_layer(path, layer)
    if layer.bias is not None and responses is not None:
        step = max(1, DECODED // (form.codebook.shape[0] * form.codebook.shape[2] * form.indices[0, 0].numel()))
        for start in range(0, form.shape[0], step):
            rows = slice(start, start + step)
            weight = dense_weight(form.codebook, form.indices[:, rows], form.shape[1])  # in the form's order
            weight = weight.flatten(2) if len(form.shape) == 4 else weight[..., None]  # (R, I, P)
            layer.bias[rows] = responses.bias(weight.transpose(1, 2), rows)
    round_layer(path, layer)


class CodebookBytes(NamedTuple):
    """Bytes of one product-quantized layer before entropy coding: codewords, and indices of fixed width."""

    codewords: int
    indices: int

    @property
    def total(self) -> int:
        """Total number of bytes."""
        return self.codewords + self.indices


def layout(
    shape: tuple[int, ...], width: int, entries: int, *, value_bytes: int = 4, block: int | None = None
) -> CodebookBytes:
    """Return the size in bytes of a weight (O, I, ...) with codewords of ``width`` channels.

    With ``block``, indices are packed into blocks of this many bytes so that none straddles two blocks, as in the files
    released by the authors (4,096); otherwise they are packed without gaps.
    """
    subspaces = -(-shape[1] // width)
    count = subspaces * shape[0] * int(np.prod(shape[2:]))
    bits = max(1, (entries - 1).bit_length())
    packed = -(-count * bits // 8) if block is None else -(-count // (8 * block // bits)) * block
    return CodebookBytes(subspaces * entries * width * value_bytes, packed)
