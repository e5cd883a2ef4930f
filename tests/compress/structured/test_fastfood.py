"""Fast transforms against scipy's Hadamard matrix, Fastfood against the product of its matrices, gradients by differences."""

import numpy as np
import pytest
import scipy.linalg
import torch
from hashpress.compress.base import Context
from hashpress.compress.structured.fastfood import Fastfood
from hashpress.core.errors import InputError, ModelFileError, RecipeError
from hashpress.core.model import HashModel
from hashpress.hashnets.build import default_arch, untrained
from hashpress.hashnets.retrieval.codes import outputs
from hashpress.modelfile.decode import weights as decoders
from hashpress.modelfile.decode.hadamard import padded_size, walsh
from hashpress.modelfile.decode.hashing import permutation
from hashpress.modelfile.edits import EDITS, edit_from_json, edit_to_json, rebuild
from hashpress.modelfile.layers import fastfood
from hashpress.modelfile.layers.densify import densified
from hashpress.modelfile.layers.fastfood import Fastfooded
from torch import nn

SEED = 77
SIZES = [(5, 7), (8, 8), (20, 6), (33, 16), (1, 1), (3, 1)]  # outputs, inputs: cut off, square, stacked


def matrices(form: fastfood.FastfoodWeight) -> np.ndarray:
    """S H G P H B, multiplied out, block by block."""
    signs, gauss, norms = (value.detach().double().numpy() for value in (form.signs, form.gauss, form.norms))
    blocks, inputs = signs.shape
    size = form.size
    h = scipy.linalg.hadamard(size) / np.sqrt(size)
    stacked = []
    for block in range(blocks):
        p = np.zeros((size, size))
        p[np.arange(size), permutation(size, block, SEED)] = 1
        b = np.zeros((size, inputs))
        b[np.arange(inputs), np.arange(inputs)] = signs[block]
        stacked.append(h @ np.diag(gauss[block]) @ p @ h @ b)
    return norms[:, None] * np.concatenate(stacked)[: len(norms)]


@pytest.mark.parametrize("size", [1, 2, 4, 64, 1024])
def test_transform_is_the_hadamard_matrix(size: int) -> None:
    values = np.random.default_rng(0).normal(size=(3, 2, size))
    expected = values @ scipy.linalg.hadamard(size) / np.sqrt(size)
    np.testing.assert_allclose(walsh(values, np.concatenate), expected, atol=1e-12)
    np.testing.assert_allclose(walsh(torch.from_numpy(values), torch.cat).numpy(), expected, atol=1e-12)
    single = values.astype(np.float32)
    assert np.array_equal(walsh(single, np.concatenate), walsh(torch.from_numpy(single), torch.cat).numpy())


@pytest.mark.parametrize("size", [0, 3, 12])
def test_transform_of_other_sizes_is_refused(size: int) -> None:
    with pytest.raises(InputError, match="power of two"):
        walsh(np.zeros(size), np.concatenate)


def test_padding() -> None:
    assert [padded_size(size) for size in (1, 2, 3, 4, 5, 784, 4096, 9216)] == [1, 2, 4, 4, 8, 1024, 4096, 16384]


@pytest.mark.parametrize(("rows", "inputs"), SIZES)
def test_layer_and_decoders_are_the_product_of_the_matrices(rows: int, inputs: int) -> None:
    form = fastfood.FastfoodWeight(rows, inputs, SEED)
    form.draw(1)
    layer = fastfood.FastfoodLinear(form, nn.Linear(inputs, rows))
    expected = matrices(form)
    features = torch.randn(2, 3, inputs)
    answer = features.double().numpy() @ expected.T + layer.bias.detach().numpy()
    np.testing.assert_allclose(layer(features).detach().numpy(), answer, atol=2e-5)
    np.testing.assert_allclose(form().detach().numpy(), expected, atol=1e-5)
    factors = [value.detach().numpy() for value in (form.signs, form.gauss, form.norms)]
    assert np.array_equal(decoders.fastfood_weight(*factors, SEED), form().detach().numpy())


@pytest.mark.parametrize(("rows", "inputs"), SIZES)
def test_gradients(rows: int, inputs: int) -> None:
    form = fastfood.FastfoodWeight(rows, inputs, SEED).double()
    factors = [torch.randn(value.shape, dtype=torch.float64, requires_grad=True) for value in form.parameters()]
    features = torch.randn(3, inputs, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(rows, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *given: fastfood.fastfood(*given, SEED), (features, *factors, bias))


def test_operator_keeps_torchs_rules() -> None:
    form = fastfood.FastfoodWeight(20, 6, SEED)
    arguments = (torch.randn(3, 6, requires_grad=True), form.signs, form.gauss, form.norms, torch.randn(20), SEED)
    assert set(torch.library.opcheck(torch.ops.hashpress.fastfood.default, arguments).values()) == {"SUCCESS"}


@pytest.mark.parametrize(("rows", "inputs"), [(500, 800), (4000, 1024), (3000, 500)])
def test_a_random_start_has_the_scale_of_he(rows: int, inputs: int) -> None:
    form = fastfood.FastfoodWeight(rows, inputs, SEED)
    form.draw(0)
    weight = form().detach()
    assert abs(float(weight.square().mean()) * inputs / 2 - 1) < 0.1
    lengths = weight.norm(dim=1)
    assert float(lengths.std() / lengths.mean()) < 0.2


def test_long_transforms_draw_norms_of_the_same_distribution() -> None:
    form = fastfood.FastfoodWeight(3000, 5000, SEED)
    form.draw(0)
    norms = form.norms.detach() * form.gauss.detach().norm(dim=1) * (5000 / 2 / 8192) ** 0.5
    assert abs(float(norms.mean()) - (8192 - 0.5) ** 0.5) < 0.05
    assert abs(float(norms.std()) - 0.5**0.5) < 0.03


@pytest.fixture
def lenet() -> HashModel:
    arch = default_arch("lenet5", 10)
    return untrained(arch, seed=0)


def test_the_pass_leaves_three_diagonals_and_a_seed(lenet: HashModel) -> None:
    before = {name: value.clone() for name, value in lenet.net.state_dict().items()}
    model = Fastfood()(lenet, seed=3)
    assert all(torch.equal(value, before[name]) for name, value in lenet.net.state_dict().items())
    (edit,) = model.edits
    shapes = {
        name: tuple(value.shape) for name, value in model.net.state_dict().items() if name.startswith("encoder.fc1")
    }
    assert shapes == {
        "encoder.fc1.bias": (500,),
        "encoder.fc1.form.signs": (1, 800),
        "encoder.fc1.form.gauss": (1, 1024),
        "encoder.fc1.form.norms": (500,),
    }
    assert Fastfood().decide(lenet, Context(seed=3)).data["layers"]["encoder.fc1"]["values"] == 500 + 1024 + 800
    assert set(Fastfood().decide(lenet, Context()).data["skipped"]) == {"encoder.conv1", "encoder.conv2"}
    pixels = np.random.default_rng(0).integers(0, 256, (20, 1, 28, 28), dtype=np.uint8)
    np.testing.assert_allclose(outputs(model, pixels), outputs(densified(model), pixels), rtol=1e-4, atol=1e-4)
    state = rebuild(model.arch, [edit_from_json(edit_to_json(edit))]).state_dict()
    assert {name: value.shape for name, value in state.items()} == {
        name: value.shape for name, value in model.net.state_dict().items()
    }
    assert EDITS["fastfood"] is Fastfooded


def test_values_of_the_deep_fried_paper() -> None:
    """LeNet's layer of 1,024 outputs on 800 inputs: 25,500 + 3 x 1,024 + 10 x 1,024 = 38,812 weights in all."""
    arch = default_arch("lenet5", 10, widths=(20, 50, 1024))
    model = Fastfood()(untrained(arch))
    weights = sum(value.numel() for name, value in model.net.state_dict().items() if not name.endswith("bias"))
    assert weights == 38_812 - (1024 - 800)  # B is kept for the inputs that are there


def test_layers_that_would_grow_are_left(lenet: HashModel) -> None:
    plan = Fastfood(skip=()).decide(lenet, Context()).data
    assert "encoder.fc1" in plan["layers"]
    assert "head" in plan["layers"]
    arch = default_arch("lenet300", 2, widths=(300, 4))
    plan = Fastfood(skip=()).decide(untrained(arch), Context()).data
    assert plan["skipped"]["head"] == "10 values would replace 8"


def test_settings_out_of_range() -> None:
    with pytest.raises(RecipeError, match="precision"):
        Fastfood(precision="bfloat16")


@pytest.mark.parametrize("edit", [Fastfooded("encoder.conv1", 0), Fastfooded("head", -1), Fastfooded("encoder", 0)])
def test_edits_that_do_not_fit(lenet: HashModel, edit: Fastfooded) -> None:
    with pytest.raises(ModelFileError):
        rebuild(lenet.arch, [edit])


def test_factors_that_do_not_fit_each_other() -> None:
    with pytest.raises(ValueError, match="do not match"):
        decoders.fastfood_weight(np.ones((1, 5), np.float32), np.ones((1, 16), np.float32), np.ones(3, np.float32), 0)
