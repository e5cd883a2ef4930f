"""Sharing weights: a budget of bytes while they train, and layers too large to be fitted whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hashpress.compress.base import Context
from hashpress.compress.codebooks import kmeans
from hashpress.compress.passes import Share
from hashpress.core.data import load_data
from hashpress.core.data.images import Split
from hashpress.core.errors import RecipeError
from hashpress.core.inputs import ImageInput
from hashpress.core.model import HashModel
from hashpress.hashnets.build import default_arch, untrained
from torch import nn


@pytest.fixture(scope="module")
def split() -> Split:
    return load_data("digits?limit=120")


@pytest.fixture(scope="module")
def model(split: Split) -> HashModel:
    spec = ImageInput.of(split)
    arch = default_arch("lenet300", 10, spec, widths=(40, 30))
    return untrained(arch, seed=3)


def test_share_keeps_to_its_bytes_while_it_trains(model: HashModel, split: Split) -> None:
    tuning = {"epochs": 4, "batch": 16, "lr": 0.003}
    for asked in (700, 1300):
        result = Share(bits=4, scaled=True, lam=0.05, bytes=asked, finetune=tuning)(model, split)
        bits = 0.0
        for path in ("encoder.fc1", "encoder.fc2", "head"):
            counts = np.bincount(result.net.get_submodule(path).form.indices.numpy().reshape(-1))
            bits -= sum(n * np.log2(n / counts.sum()) for n in counts if n)
        assert bits / 8 == pytest.approx(asked, rel=0.1)
    with pytest.raises(RecipeError, match="bytes needs finetune"):
        Share(lam=0.1, bytes=100)


@pytest.mark.parametrize("settings", [{}, {"scaled": True}, {"lam": 0.5, "scaled": True}])
def test_a_large_weight_is_fitted_in_part_and_assigned_whole(
    settings: dict[str, object], model: HashModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, item = model.copy_net(), Share(bits=3, start="density", **settings)
    for place, value in enumerate(net.parameters()):
        nn.init.normal_(value, generator=torch.Generator().manual_seed(place))
    model = HashModel(net, model.arch)
    whole = item.decide(model, Context()).plan.books
    monkeypatch.setattr(kmeans, "FIT", 700)
    books = item.decide(model, Context()).plan.books
    for path, book in books.items():
        weight = model.net.get_submodule(path).weight.detach().double().numpy()
        factors = np.ones((len(weight), 1)) if book.scale is None else book.scale[:, None]
        assert book.indices.shape == weight.shape
        costs = [
            np.mean((b.centres[b.indices] * factors - weight) ** 2) / np.mean(weight**2)
            + item.lam * b.bits / weight.size
            for b in (book, whole[path])
        ]
        assert costs[0] < 1.08 * costs[1], path
        if "lam" not in settings:
            nearest = np.abs(weight[..., None] / factors[..., None] - book.centres[1:]).argmin(-1) + 1
            assert np.mean(book.indices == nearest) > 0.99, "halves of centres move the borders a little"
