"""Layers by look-up against loops over every weight; the pass; the bytes of the files that the authors released."""

import numpy as np
import pytest
import torch
from hashpress.compress.base import Context
from hashpress.compress.codebooks.pq import ProductQuantize, layout
from hashpress.core.data import load_data
from hashpress.core.data.images import Split
from hashpress.core.errors import InputError, ModelFileError, RecipeError
from hashpress.core.inputs import ImageInput
from hashpress.core.model import HashModel
from hashpress.hashnets.build import default_arch, untrained
from hashpress.hashnets.retrieval.codes import outputs
from hashpress.modelfile.decode import weights
from hashpress.modelfile.edits import EDITS, edit_from_json, edit_to_json, rebuild
from hashpress.modelfile.layers import pq
from hashpress.modelfile.layers.densify import densified
from hashpress.modelfile.layers.pq import ProductQuantized
from random_codewords import filled
from torch import nn
from torch.nn import functional


def loops(form: pq.ProductQuantizedWeight) -> np.ndarray:
    """The weight, entry by entry."""
    weight = np.empty(form.shape)
    width = form.codebook.shape[2]
    for place in np.ndindex(*form.shape):
        output, channel, *kernel = place
        at = form.order.tolist().index(channel) if form.permuted else channel
        word = int(form.indices[(at // width, output, *kernel)])
        weight[place] = float(form.codebook[at // width, word, at % width].detach())
    return weight


FORMS = [
    ((5, 7), 3, 4, True),
    ((5, 8), 4, 300, False),
    ((6, 4, 3, 2), 3, 5, True),
    ((6, 4, 1, 1), 4, 2, False),
]


@pytest.mark.parametrize(("shape", "width", "entries", "permuted"), FORMS)
def test_both_decoders_put_every_codeword_in_its_place(
    shape: tuple[int, ...], width: int, entries: int, permuted: bool
) -> None:
    form = filled(pq.ProductQuantizedWeight(shape, width, entries, permuted=permuted))
    assert np.array_equal(form().detach().numpy(), loops(form).astype(np.float32))
    order = form.order.numpy() if permuted else None
    decoded = weights.product_weight(form.codebook.detach().numpy(), form.indices.numpy(), shape[1], order)
    assert np.array_equal(decoded, form().detach().numpy())


CONVOLUTIONS = [
    {"kernel_size": 3},
    {"kernel_size": (2, 3), "stride": (1, 2), "padding": (1, 0)},
    {"kernel_size": 3, "groups": 2, "padding": 2, "dilation": (2, 1)},
    {"kernel_size": 1, "groups": 4, "stride": 2},
    {"kernel_size": 5, "padding": 2, "bias": False},
]


@pytest.mark.parametrize("settings", CONVOLUTIONS)
@pytest.mark.parametrize("permuted", [False, True])
def test_convolution_by_look_up_is_the_decoded_convolution(settings: dict, permuted: bool) -> None:
    plain = nn.Conv2d(4, 8, **settings)
    form = filled(
        pq.ProductQuantizedWeight(tuple(plain.weight.shape), min(3, plain.weight.shape[1]), 5, permuted=permuted)
    )
    layer = pq.ProductConv2d(form, plain).eval()
    images = torch.randn(3, 4, 9, 8)
    weight = torch.from_numpy(loops(form)).float()
    expected = functional.conv2d(images, weight, plain.bias, plain.stride, plain.padding, plain.dilation, plain.groups)
    torch.testing.assert_close(layer(images), expected, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(layer.train()(images), expected, atol=2e-5, rtol=1e-5)


def test_large_batches_are_looked_up_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    form = filled(pq.ProductQuantizedWeight((6, 4, 3, 3), 2, 5))
    layer = pq.ProductConv2d(form, nn.Conv2d(4, 6, 3)).eval()
    images = torch.randn(7, 4, 9, 8)
    whole = layer(images)
    monkeypatch.setattr(pq, "TABLE", 2 * 2 * 5 * 9 * 8)
    torch.testing.assert_close(layer(images), whole)


def test_dense_layer_by_look_up() -> None:
    form = filled(pq.ProductQuantizedWeight((5, 7), 3, 4, permuted=True))
    layer = pq.ProductLinear(form, nn.Linear(7, 5)).eval()
    features = torch.randn(2, 3, 7)
    expected = features @ torch.from_numpy(loops(form)).float().T + layer.bias
    torch.testing.assert_close(layer(features), expected)
    torch.testing.assert_close(layer.train()(features), expected)


@pytest.mark.parametrize("settings", CONVOLUTIONS[:3])
def test_gradients(settings: dict) -> None:
    plain = nn.Conv2d(4, 8, **settings)
    form = filled(pq.ProductQuantizedWeight(tuple(plain.weight.shape), min(3, plain.weight.shape[1]), 5)).double()
    images = torch.randn(2, 4, 6, 5, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(8, dtype=torch.float64, requires_grad=True)
    rest = (list(plain.stride), list(plain.padding), list(plain.dilation), plain.groups)
    arguments = (images, form.codebook, bias)
    assert torch.autograd.gradcheck(lambda x, c, b: pq.pq(x, c, form.indices, b, *rest), arguments)
    assert set(
        torch.library.opcheck(
            torch.ops.hashpress.pq.default, (images, form.codebook, form.indices, bias, *rest)
        ).values()
    ) == {"SUCCESS"}


@pytest.fixture(scope="module")
def digits() -> Split:
    return load_data("digits")


@pytest.fixture(scope="module")
def model(digits: Split) -> HashModel:
    arch = default_arch("lenet300", 10, ImageInput((1, 8, 8), (0.3,), (0.4,)), widths=(60, 40))
    return untrained(arch, seed=0)


SETTINGS = [
    {"sweeps": 0},
    {"sweeps": 3, "samples": 300},
    {"sweeps": 2, "samples": 300, "permute": True, "width": 4, "entries": 16, "precision": "float32"},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_pass_leaves_codewords_and_indices(model: HashModel, digits: Split, settings: dict) -> None:
    before = {name: value.clone() for name, value in model.net.state_dict().items()}
    small = ProductQuantize(skip=("head",), **settings)(model, digits, seed=2)
    assert all(torch.equal(value, before[name]) for name, value in model.net.state_dict().items())
    names = {"bias", "form.codebook", "form.indices"} | ({"form.order"} if settings.get("permute") else set())
    state = small.net.state_dict()
    assert {name.removeprefix("encoder.fc1.") for name in state if name.startswith("encoder.fc1.")} == names
    pixels = digits.queries.pixels
    np.testing.assert_allclose(outputs(small, pixels), outputs(densified(small), pixels), atol=1e-4)
    edits = [edit_from_json(edit_to_json(edit)) for edit in small.edits]
    assert EDITS["pq"] is ProductQuantized
    assert {name: (value.shape, value.dtype) for name, value in rebuild(small.arch, edits).state_dict().items()} == {
        name: (value.shape, value.dtype) for name, value in state.items()
    }
    again = ProductQuantize(skip=("head",), **settings)(model, digits, seed=2).net.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in state.items())
    if settings.get("precision") != "float32":
        assert torch.equal(state["encoder.fc1.form.codebook"].half().float(), state["encoder.fc1.form.codebook"])


def test_permutation_finds_channels_that_belong_together(model: HashModel, digits: Split) -> None:
    """Inputs that are alike stand sixteen apart: codewords of four neighbours fit badly, of four alike ones well."""
    random, like = torch.Generator().manual_seed(0), HashModel(model.copy_net(), model.arch)
    factors = torch.randn(60, 16, generator=random)
    like.net.encoder.fc1.weight.data = factors.repeat(1, 4) + 0.1 * torch.randn(60, 64, generator=random)
    errors = {}
    for permute in (False, True):
        work = ProductQuantize(width={"encoder.fc1": 4}, entries=16, sweeps=0, permute=permute)
        small = densified(work(like, digits))
        errors[permute] = float((small.net.encoder.fc1.weight - like.net.encoder.fc1.weight).detach().square().sum())
    assert errors[True] < 0.5 * errors[False]


def test_correction_brings_the_outputs_nearer(model: HashModel, digits: Split) -> None:
    wanted = outputs(model, digits.queries.pixels)
    errors = []
    for sweeps in (0, 4):
        small = ProductQuantize(width=4, entries=8, sweeps=sweeps, skip=("head",))(model, digits)
        errors.append(float(((outputs(small, digits.queries.pixels) - wanted) ** 2).mean()))
    assert errors[1] < 0.6 * errors[0]
    with pytest.raises(InputError, match="training images"):
        ProductQuantize()(model)


def test_layers_that_would_not_shrink_are_left(model: HashModel) -> None:
    plan = ProductQuantize(width=1, entries=256, precision="float32").decide(model, Context()).data
    assert set(plan["skipped"]) == {"encoder.fc1", "encoder.fc2", "head"}
    assert "would replace 1600" in plan["skipped"]["head"]


RELEASED = [  # shape of the weight in Caffe's AlexNet, width, entries; conv1's three channels stand in eight
    ((96, 8, 11, 11), 8, 128),
    ((256, 48, 5, 5), 8, 128),
    ((384, 256, 3, 3), 8, 128),
    ((384, 192, 3, 3), 8, 128),
    ((256, 192, 3, 3), 8, 128),
    ((4096, 9216), 4, 32),
    ((4096, 4096), 4, 32),
    ((1000, 4096), 1, 16),
]


def test_the_released_alexnet_has_its_bytes() -> None:
    layouts = [layout(shape, width, entries, block=4096) for shape, width, entries in RELEASED]
    biases = sum(4 * shape[0] for shape, _, _ in RELEASED)
    total = sum(part.total for part in layouts) + biases
    assert round(total / 2**20, 2) == 12.60
    assert sum(part.codewords for part in layouts) == 2_322_432
    assert round(sum(part.indices for part in layouts) / 1e6, 2) == 10.85
    assert layout((4096, 9216), 4, 32).indices == 2304 * 4096 * 5 // 8


def test_decisions_count_what_the_state_holds(model: HashModel) -> None:
    plan = ProductQuantize(sweeps=0, skip=("head",)).decide(model, Context()).data
    state = ProductQuantize(sweeps=0, skip=("head",))(model).net.state_dict()
    for path, row in plan["layers"].items():
        codebook, indices = state[f"{path}.form.codebook"], state[f"{path}.form.indices"]
        assert codebook.shape == (row["subspaces"], row["entries"], row["width"])
        assert row["bytes"] == 2 * codebook.numel() + -(-indices.numel() * 5 // 8)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"width": 65}, "width"),
        ({"entries": {"conv": 1}}, "entries of 'conv'"),
        ({"sweeps": -1}, "sweeps"),
        ({"samples": 0}, "samples"),
        ({"precision": "int8"}, "precision"),
    ],
)
def test_settings_out_of_range(settings: dict, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        ProductQuantize(**settings)


@pytest.mark.parametrize(
    "edit",
    [
        ProductQuantized("encoder.fc1", 65, 4, 16),
        ProductQuantized("encoder.fc1", 64, 0, 16),
        ProductQuantized("encoder.fc1", 64, 4, 1 << 16),
        ProductQuantized("encoder", 64, 4, 16),
    ],
)
def test_edits_that_do_not_fit(model: HashModel, edit: ProductQuantized) -> None:
    with pytest.raises(ModelFileError):
        rebuild(model.arch, [edit])


def test_a_large_weight_is_decoded_in_parts(monkeypatch):
    generator = torch.Generator().manual_seed(3)
    codebook = torch.randn(5, 7, 4, generator=generator)
    for shape in ((5, 6), (5, 6, 3, 2)):
        indices = torch.randint(7, shape, generator=generator, dtype=torch.uint8)
        whole = pq.dense_weight(codebook, indices, 18)
        order = torch.randperm(18, generator=generator).to(torch.int32)
        put_back = pq.dense_weight(codebook, indices, 18, order)
        assert torch.equal(put_back[:, order.long()], whole)
        monkeypatch.setattr(pq, "PART", 2 * indices[0].numel() * 4)
        assert torch.equal(pq.dense_weight(codebook, indices, 18), whole)
        assert torch.equal(pq.dense_weight(codebook, indices, 18, order), put_back)
        learned = codebook.clone().requires_grad_()
        pq.dense_weight(learned, indices, 18, order).sum().backward()
        assert learned.grad is not None
        monkeypatch.undo()
