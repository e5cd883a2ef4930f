"""Hashed weights against loops over every weight, scipy's cosine transform and numerical gradients."""

import struct
from collections.abc import Callable

import numpy as np
import pytest
import scipy.fft
import torch
from hashpress.compress.base import Context
from hashpress.compress.structured.hashed import HashWeights, band_sizes
from hashpress.core.errors import ModelFileError, RecipeError
from hashpress.core.inputs import ImageInput
from hashpress.core.model import HashModel
from hashpress.hashnets.build import build, default_arch, untrained
from hashpress.hashnets.retrieval.codes import outputs
from hashpress.modelfile.decode import weights
from hashpress.modelfile.edits import EDITS, edit_from_json, edit_to_json, rebuild
from hashpress.modelfile.layers import hashed
from hashpress.modelfile.layers.densify import densified
from hashpress.modelfile.layers.hashed import Hashed as HashedEdit
from torch import nn
from torch.nn import functional
from xxhash32_in_plain_python import plain

SEED = 12345


def loops(values: np.ndarray, shape: tuple[int, ...], sizes: tuple[int, ...], seed: int) -> np.ndarray:
    """The entries one by one, by the specification's hash in plain Python."""
    entries = np.empty((shape[0], int(np.prod(shape[1:]))))
    starts = np.concatenate([[0], np.cumsum(sizes)])
    for i, j in np.ndindex(*entries.shape):
        band = 0
        if len(sizes) > 1:
            band = j // shape[3] % shape[2] + j % shape[3]
        pair = struct.pack("<II", i, j)
        sign = -1 if plain(pair, seed ^ 0x9E3779B9) >> 31 else 1
        entries[i, j] = sign * values[starts[band] + plain(pair, seed) % sizes[band]]
    weight = entries.reshape(shape)
    return scipy.fft.idctn(weight, axes=(2, 3), norm="ortho") if len(sizes) > 1 else weight


CASES = [
    ((9, 13), (5,)),
    ((1, 1), (1,)),
    ((4, 3, 3, 3), (7,)),
    ((4, 3, 3, 5), (6, 5, 4, 3, 3, 2, 1)),
    ((3, 2, 1, 1), (4,)),
]


@pytest.mark.parametrize(("shape", "sizes"), CASES)
def test_every_weight_is_the_signed_value_of_its_hash(shape: tuple[int, ...], sizes: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).normal(size=sum(sizes))
    np.testing.assert_allclose(
        weights.hashed_weight(values, shape, sizes, SEED), loops(values, shape, sizes, SEED), atol=1e-12
    )


@pytest.mark.parametrize(("shape", "sizes"), CASES)
def test_numpy_and_torch_decode_the_same_bits(shape: tuple[int, ...], sizes: tuple[int, ...]) -> None:
    form = hashed.HashedWeight(shape, sizes, SEED)
    form.draw(1)
    decoded = weights.hashed_weight(form.values.detach().numpy(), shape, sizes, SEED)
    assert decoded.dtype == np.float32
    assert np.array_equal(decoded, form().detach().numpy())


def test_layers_too_large_to_remember_hash_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.randn(11, dtype=torch.float64)
    features = torch.randn(3, 13, dtype=torch.float64)
    whole = hashed.hashed(features, values, None, 9, SEED), hashed.hashed_weight(values, (9, 13), (11,), SEED)
    monkeypatch.setattr(weights, "CACHED", 0)
    monkeypatch.setattr(weights, "CHUNK", 30)
    parts = hashed.hashed(features, values, None, 9, SEED), hashed.hashed_weight(values, (9, 13), (11,), SEED)
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other)
    torch.autograd.gradcheck(
        lambda x, v: hashed.hashed(x, v, None, 9, SEED), (features.requires_grad_(), values.requires_grad_())
    )


def test_gradients() -> None:
    features = torch.randn(3, 7, dtype=torch.float64, requires_grad=True)
    values = torch.randn(4, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, v, b: hashed.hashed(x, v, b, 5, SEED), (features, values, bias))
    coefficients = torch.randn(15, dtype=torch.float64, requires_grad=True)

    def weight(values: torch.Tensor) -> torch.Tensor:
        return weights.from_frequencies(hashed.hashed_weight(values, (4, 3, 3, 3), (5, 4, 3, 2, 1), SEED), torch.cat)

    assert torch.autograd.gradcheck(weight, (coefficients,))


def test_operators_keep_torchs_rules() -> None:
    features, values = torch.randn(3, 7, requires_grad=True), torch.randn(4, requires_grad=True)
    assert set(
        torch.library.opcheck(torch.ops.hashpress.hashed.default, (features, values, torch.randn(5), 5, SEED)).values()
    ) == {"SUCCESS"}
    assert set(
        torch.library.opcheck(torch.ops.hashpress.hashed_weight.default, (values, (5, 7), (4,), SEED)).values()
    ) == {"SUCCESS"}


def test_cosine_transform_is_scipys() -> None:
    weight = np.random.default_rng(0).normal(size=(4, 2, 3, 5))
    there = weights.to_frequencies(weight, np.concatenate)
    np.testing.assert_allclose(there, scipy.fft.dctn(weight, axes=(2, 3), norm="ortho"), atol=1e-12)
    np.testing.assert_allclose(weights.from_frequencies(there, np.concatenate), weight, atol=1e-12)


@pytest.mark.parametrize(("shape", "sizes"), CASES[:4])
def test_a_trained_start_is_the_least_squares_fit(shape: tuple[int, ...], sizes: tuple[int, ...]) -> None:
    weight = torch.randn(shape, dtype=torch.float64)
    columns = [loops(unit, shape, sizes, SEED).ravel() for unit in np.eye(sum(sizes))]
    best = np.linalg.lstsq(np.stack(columns, 1), weight.numpy().ravel(), rcond=None)[0]
    form = hashed.HashedWeight(shape, sizes, SEED).double()
    form.fit(weight)
    np.testing.assert_allclose(form().detach().numpy(), loops(best, shape, sizes, SEED), atol=1e-10)


def test_a_weight_that_is_hashed_already_is_found_exactly() -> None:
    form = hashed.HashedWeight((8, 4, 3, 3), (9, 8, 7, 6, 5), SEED).double()
    torch.nn.init.normal_(form.values)
    again = hashed.HashedWeight((8, 4, 3, 3), (9, 8, 7, 6, 5), SEED).double()
    again.fit(form().detach())
    torch.testing.assert_close(again.values[form.counts() > 0], form.values[form.counts() > 0])
    assert int(form.counts().sum()) == 8 * 4 * 9


def test_the_start_has_the_variance_of_the_virtual_fan_in() -> None:
    form = hashed.HashedWeight((300, 400), (20_000,), SEED)
    form.draw(0)
    assert abs(float(form().detach().std()) / (2 / 400) ** 0.5 - 1) < 0.03


def test_band_sizes_fall_with_the_frequency_and_add_up() -> None:
    shape = (64, 32, 5, 5)
    sizes = band_sizes(shape, 3200, 0.25, 2.5)
    room = np.array([1, 2, 3, 4, 5, 4, 3, 2, 1]) * 64 * 32
    assert sum(sizes) == 3200
    kept = np.array(sizes) / room
    assert (np.diff(kept) <= 1e-3).all()
    assert kept[0] > 5 * kept[4]
    assert band_sizes(shape, 1, 0.25, 2.5) == (1,) * 9
    assert band_sizes(shape, 10**9, 0.25, 2.5) == tuple(room)


@pytest.fixture
def lenet() -> HashModel:
    arch = default_arch("lenet5", 10)
    return untrained(arch, seed=0)


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (20, 1, 28, 28), dtype=np.uint8)


@pytest.mark.parametrize(
    "settings", [{}, {"transform": "none"}, {"start": "random"}, {"share": {"conv": 0.5, "head": 0.3}}]
)
def test_the_pass_leaves_seed_and_values(lenet: HashModel, pixels: np.ndarray, settings: dict) -> None:
    before = {name: value.clone() for name, value in lenet.net.state_dict().items()}
    model = HashWeights(**settings)(lenet, seed=3)
    assert all(torch.equal(value, before[name]) for name, value in lenet.net.state_dict().items())
    for edit in model.edits:
        names = [name for name in model.net.state_dict() if name.startswith(f"{edit.layer}.")]
        assert names == [f"{edit.layer}.bias", f"{edit.layer}.form.values"]
        whole = lenet.net.get_submodule(edit.layer)
        share = settings.get("share", 0.125)
        share = share if isinstance(share, float) else share["head" if edit.layer == "head" else "conv"]
        stored = sum(model.net.state_dict()[name].numel() for name in names)
        bands = len(edit.sizes)
        assert abs(stored - share * (whole.weight.numel() + whole.bias.numel())) <= bands
    np.testing.assert_allclose(outputs(model, pixels), outputs(densified(model), pixels), rtol=1e-4, atol=1e-4)
    again = HashWeights(**settings)(lenet, seed=3)
    assert all(torch.equal(value, again.net.state_dict()[name]) for name, value in model.net.state_dict().items())


def test_edits_rebuild_the_network(lenet: HashModel) -> None:
    model = HashWeights()(lenet, seed=3)
    edits = [edit_from_json(edit_to_json(edit)) for edit in model.edits]
    assert tuple(edits) == model.edits
    assert EDITS["hashed"] is HashedEdit
    state = rebuild(model.arch, edits).state_dict()
    assert {name: (value.shape, value.dtype) for name, value in state.items()} == {
        name: (value.shape, value.dtype) for name, value in model.net.state_dict().items()
    }


def test_hashed_layers_learn(lenet: HashModel) -> None:
    layer = HashWeights(share={"encoder.fc1": 0.1}, start="random", precision="float32")(lenet).net.encoder.fc1
    target = functional.linear(torch.eye(800), torch.randn(500, 800) / 30)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.01)
    losses = []
    for _ in range(20):
        loss = (layer(torch.eye(800)) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_bands_that_cannot_pay_their_biases_are_left(lenet: HashModel) -> None:
    plan = HashWeights(share={"*": 0.001}).decide(lenet, Context()).data
    assert "biases alone" in plan["skipped"]["encoder.conv1"]
    assert "encoder.conv1" not in plan["layers"]


BAD: list[tuple[Callable[[], object], str]] = [
    (lambda: HashWeights(share=0.0), "share"),
    (lambda: HashWeights(share=1.5), "share"),
    (lambda: HashWeights(start="best"), "start"),
    (lambda: HashWeights(transform="fourier"), "transform"),
    (lambda: HashWeights(beta=0.0), "beta"),
    (lambda: HashWeights(skip=("re:(",)), "regular expression"),
]


@pytest.mark.parametrize(("make", "words"), BAD)
def test_settings_out_of_range(make: Callable[[], object], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        make()


@pytest.mark.parametrize(
    "edit",
    [
        HashedEdit("encoder.fc1", (500, 801), (10,), 0),
        HashedEdit("encoder.fc1", (500, 800), (10, 10), 0),
        HashedEdit("encoder.fc1", (500, 800), (0,), 0),
        HashedEdit("encoder.fc1", (500, 800), (10,), -1),
        HashedEdit("encoder", (500, 800), (10,), 1),
    ],
)
def test_edits_that_do_not_fit(lenet: HashModel, edit: HashedEdit) -> None:
    with pytest.raises(ModelFileError):
        rebuild(lenet.arch, [edit])


def test_convolutions_that_pad_by_name_are_left() -> None:
    arch = default_arch("lenet300", 4, ImageInput((1, 6, 6), (0.0,), (1.0,)))
    net = build(arch)
    net.encoder = nn.Sequential(nn.Conv2d(1, 2, 3, padding="same"), nn.Flatten())
    net.head = nn.Linear(72, 4)
    plan = HashWeights().decide(HashModel(net, arch), Context()).data
    assert plan["skipped"]["encoder.0"] == "padding 'same'"
