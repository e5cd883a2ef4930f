"""Product quantization against loops, dense decoding, brute force and the bytes of the files that its authors released."""

import itertools

import numpy as np
import pytest
import torch
from hashpress.compress import decoders, pqfit
from hashpress.compress.edits import EDITS, edit_from_json, edit_to_json, rebuild
from hashpress.compress.form_edits import ProductQuantized
from hashpress.compress.layers import pq
from hashpress.compress.layers.dense import densified
from hashpress.compress.passes.pq import ProductQuantize, layout
from hashpress.compress.pqcorrect import correct
from hashpress.compress.responses import collect, running_order
from hashpress.core.data import load_data
from hashpress.core.data.images import Split
from hashpress.core.errors import InputError, ModelFileError, RecipeError
from hashpress.core.model import HashModel, InputSpec
from hashpress.hashnets.build import build, default_arch
from hashpress.hashnets.codes import outputs
from sklearn.cluster import KMeans
from torch import nn
from torch.nn import functional

SPEC = InputSpec((4, 9, 8), (0.5,) * 4, (0.25,) * 4)


def filled(form: pq.Product, seed: int = 0) -> pq.Product:
    generator = torch.Generator().manual_seed(seed)
    form.codebook.data = torch.randn(form.codebook.shape, generator=generator)
    form.indices.copy_(torch.randint(form.codebook.shape[1], form.indices.shape, generator=generator))
    if form.permuted:
        form.order.copy_(torch.randperm(form.shape[1], generator=generator))
    return form


def loops(form: pq.Product) -> np.ndarray:
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
    form = filled(pq.Product(shape, width, entries, permuted=permuted))
    assert np.array_equal(form().detach().numpy(), loops(form).astype(np.float32))
    order = form.order.numpy() if permuted else None
    decoded = decoders.product_weight(form.codebook.detach().numpy(), form.indices.numpy(), shape[1], order)
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
    form = filled(pq.Product(tuple(plain.weight.shape), min(3, plain.weight.shape[1]), 5, permuted=permuted))
    layer = pq.ProductConv2d(form, plain).eval()
    images = torch.randn(3, 4, 9, 8)
    weight = torch.from_numpy(loops(form)).float()
    expected = functional.conv2d(images, weight, plain.bias, plain.stride, plain.padding, plain.dilation, plain.groups)
    torch.testing.assert_close(layer(images), expected, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(layer.train()(images), expected, atol=2e-5, rtol=1e-5)


def test_large_batches_are_looked_up_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    form = filled(pq.Product((6, 4, 3, 3), 2, 5))
    layer = pq.ProductConv2d(form, nn.Conv2d(4, 6, 3)).eval()
    images = torch.randn(7, 4, 9, 8)
    whole = layer(images)
    monkeypatch.setattr(pq, "TABLE", 2 * 2 * 5 * 9 * 8)
    torch.testing.assert_close(layer(images), whole)


def test_dense_layer_by_look_up() -> None:
    form = filled(pq.Product((5, 7), 3, 4, permuted=True))
    layer = pq.ProductLinear(form, nn.Linear(7, 5)).eval()
    features = torch.randn(2, 3, 7)
    expected = features @ torch.from_numpy(loops(form)).float().T + layer.bias
    torch.testing.assert_close(layer(features), expected)
    torch.testing.assert_close(layer.train()(features), expected)


@pytest.mark.parametrize("settings", CONVOLUTIONS[:3])
def test_gradients(settings: dict) -> None:
    plain = nn.Conv2d(4, 8, **settings)
    form = filled(pq.Product(tuple(plain.weight.shape), min(3, plain.weight.shape[1]), 5)).double()
    images = torch.randn(2, 4, 6, 5, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(8, dtype=torch.float64, requires_grad=True)
    rest = (list(plain.stride), list(plain.padding), list(plain.dilation), plain.groups)
    arguments = (images, form.codebook, bias)
    assert torch.autograd.gradcheck(lambda x, c, b: pq.pq(x, c, form.indices, b, *rest), arguments)
    torch.library.opcheck(torch.ops.hashpress.pq.default, (images, form.codebook, form.indices, bias, *rest))


def test_kmeans_finds_clusters_and_beats_every_start_of_its_own() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(3, 8, 4, generator=generator) * 20
    labels = torch.arange(400) % 8
    points = centres[:, labels] + torch.randn(3, 400, 4, generator=generator) * 0.01
    found, assigned = pqfit.kmeans(points, 8, seed=1)
    for group in range(3):
        pairs = {(int(a), int(b)) for a, b in zip(labels, assigned[group], strict=True)}
        assert len(pairs) == 8
        for true, own in pairs:
            torch.testing.assert_close(found[group, own], points[group][labels == true].mean(0), atol=1e-4, rtol=0)


def test_kmeans_ends_at_a_fixed_point_near_scikit_learns() -> None:
    points = torch.randn(2, 500, 3, generator=torch.Generator().manual_seed(0))
    found, labels = pqfit.kmeans(points, 16, seed=0, iterations=300)
    again, _ = pqfit.nearest(points, found)
    assert torch.equal(again, labels)
    torch.testing.assert_close(pqfit.means(points, labels, found), found)
    own = float((points - found.gather(1, labels[..., None].expand(-1, -1, 3))).square().sum())
    theirs = sum(KMeans(16, n_init=1, random_state=0).fit(part.numpy()).inertia_ for part in points)
    assert own < 1.1 * theirs
    repeated = pqfit.kmeans(points, 16, seed=0, iterations=300)
    assert torch.equal(repeated[0], found)


def test_as_many_codewords_as_sub_vectors_lose_nothing() -> None:
    points = torch.randn(5, 12, 3)
    codebook, labels = pqfit.kmeans(points, 12, seed=0)
    torch.testing.assert_close(codebook.gather(1, labels[..., None].expand(-1, -1, 3)), points)
    same = points[:, :1].expand(-1, 6, -1)
    codebook, labels = pqfit.kmeans(same, 4, seed=0)
    torch.testing.assert_close(codebook.gather(1, labels[..., None].expand(-1, -1, 3)), same)


def test_canonical_labels_keep_the_weight_and_sort_by_use() -> None:
    form = filled(pq.Product((40, 6, 2, 2), 2, 7))
    before = form().detach()
    codebook, indices = pqfit.canonical(form.codebook.data, form.indices.long())
    form.codebook.data, form.indices = codebook, indices.to(torch.uint8)
    assert torch.equal(form(), before)
    for part in indices:
        assert (torch.bincount(part.view(-1), minlength=7).diff() <= 0).all()


def test_channel_order_is_a_permutation_that_lowers_the_error() -> None:
    generator = torch.Generator().manual_seed(0)
    factors = torch.randn(400, 4, generator=generator)
    groups = torch.arange(16) % 4  # channels that belong together stand four apart
    weight = (factors[:, groups] + 0.2 * torch.randn(400, 16, generator=generator))[:, :, None, None]
    order = pqfit.channel_order(weight, 4, seed=0)
    assert sorted(order.tolist()) == list(range(16))
    assert all(len({int(groups[channel]) for channel in part}) == 1 for part in order.view(4, 4))

    def error(arranged: torch.Tensor) -> float:
        points = pqfit.subvectors(arranged, 4)
        codebook, labels = pqfit.kmeans(points, 16, seed=0)
        return float((points - codebook.gather(1, labels[..., None].expand(-1, -1, 4))).square().sum())

    assert error(weight[:, order]) < 0.5 * error(weight)
    assert pqfit.channel_order(weight[:, :5], 4, seed=0).sort().values.tolist() == list(range(5))


class Net(nn.Module):
    """A convolution in two groups and a dense layer, biases and none."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 12, 3, stride=2, padding=1, groups=2)
        self.dense = nn.Linear(12 * 5 * 4, 20, bias=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.dense(functional.relu(self.conv(images)).flatten(1))


@pytest.fixture
def nets() -> tuple[Net, Net]:
    torch.manual_seed(0)
    reference, net = Net().eval(), Net().eval()
    net.load_state_dict(reference.state_dict())
    with torch.no_grad():
        net.conv.weight += 0.05 * torch.randn(net.conv.weight.shape)
    return reference, net


def smooth_pixels() -> np.ndarray:
    """Images whose neighbours and channels are alike, as in pictures: white noise would leave nothing to correct."""
    rng = np.random.default_rng(0)
    waves = rng.normal(size=(60, 2, 3, 2)) @ np.cos(np.outer(np.arange(2), np.arange(8)) * 0.4)
    waves = np.einsum(
        "cd,ndkx,ky->ncyx", rng.normal(size=(4, 2)), waves, np.cos(np.outer(np.arange(3), np.arange(9)) * 0.4)
    )
    waves += 0.2 * rng.normal(size=waves.shape)
    return np.clip(128 + 25 * waves, 0, 255).astype(np.uint8)


PIXELS = smooth_pixels()


def test_responses_are_inputs_of_one_and_outputs_of_the_other(nets: tuple[Net, Net]) -> None:
    """The second moments agree with those of explicit patches at every place of every image."""
    reference, net = nets
    images = SPEC.normalise(PIXELS)
    assert running_order(net, ["dense", "conv"], SPEC) == ["conv", "dense"]
    found = collect(reference, net, "conv", PIXELS, SPEC)
    patches = functional.unfold(images, 3, padding=1, stride=2).unflatten(1, (4, 9))  # (N, I, P, L)
    answers = reference.conv(images).flatten(2)
    for group, part in enumerate(found.groups):
        x = patches[:, 2 * group : 2 * group + 2].permute(0, 3, 2, 1).reshape(-1, 18).double()
        y = answers[:, 6 * group : 6 * group + 6].transpose(1, 2).reshape(-1, 6).double()
        x, y = x - x.mean(0), y - y.mean(0)
        own = part.inputs.flatten(1).double()
        torch.testing.assert_close(own.T @ own, x.T @ x, rtol=1e-4, atol=1e-2)
        torch.testing.assert_close(own.T @ part.targets.double(), x.T @ y, rtol=1e-4, atol=1e-2)
    found = collect(reference, net, "dense", PIXELS, SPEC)
    torch.testing.assert_close(found.groups[0].inputs[:, 0], functional.relu(net.conv(images)).flatten(1).detach())
    torch.testing.assert_close(found.groups[0].targets, reference(images).detach())


def quantized(net: nn.Module, path: str, width: int, entries: int) -> tuple[torch.Tensor, torch.Tensor]:
    weight = net.get_submodule(path).weight.detach()
    weight = weight if weight.ndim == 4 else weight[..., None, None]
    points = pqfit.subvectors(weight, width)
    codebook, labels = pqfit.kmeans(points, entries, seed=0)
    return codebook, labels.view(len(points), len(weight), -1)


@pytest.mark.parametrize(("path", "width"), [("conv", 2), ("conv", 1), ("dense", 3), ("dense", 7)])
def test_error_correction_never_raises_the_error_and_beats_kmeans(nets: tuple[Net, Net], path: str, width: int) -> None:
    reference, net = nets
    codebook, indices = quantized(reference, path, width, 5)
    found = correct(collect(reference, net, path, PIXELS, SPEC), codebook, indices, sweeps=6, damping=1e-4)
    assert all(later <= earlier * (1 + 1e-6) for earlier, later in itertools.pairwise(found.errors))
    assert found.errors[-1] < 0.8 * found.errors[0]

    def response_error(codebook: torch.Tensor, indices: torch.Tensor) -> float:
        layer = net.get_submodule(path)
        form = pq.Product(tuple(layer.weight.shape), width, 5)
        form.codebook.data = codebook
        form.indices.copy_(indices.view_as(form.indices))
        images = SPEC.normalise(PIXELS)
        given = images if path == "conv" else functional.relu(net.conv(images)).flatten(1)
        wanted = reference.conv(images) if path == "conv" else reference(images)
        decoded = {"conv": pq.ProductConv2d, "dense": pq.ProductLinear}[path](form, layer).dense()
        rest = decoded(given) - wanted
        if layer.bias is not None:
            rest = rest - rest.mean((0, 2, 3), keepdim=True)  # the bias takes care of means
            wanted = wanted - wanted.mean((0, 2, 3), keepdim=True)
        return (rest.square().sum() / wanted.square().sum()).item()

    before, after = response_error(codebook, indices), response_error(found.codebook, found.indices)
    assert after < 0.8 * before
    assert before == pytest.approx(found.errors[0], rel=0.02)
    assert after == pytest.approx(found.errors[-1], rel=0.15)  # which also counts the way from the original weight


def test_a_step_of_the_descent_is_the_brute_force_optimum() -> None:
    """One output channel, one subspace, one position: indices and codewords of the exhaustive search."""
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(2, 3, bias=False))
    spec = InputSpec((2, 1, 1), (0.0, 0.0), (1.0, 1.0))
    wrapped = nn.Sequential(nn.Flatten(), net[0]).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 2, 1, 1), dtype=np.uint8)
    responses = collect(wrapped, wrapped, "1", pixels, spec)
    x, y = responses.groups[0].inputs[:, 0].double(), responses.groups[0].targets.double()
    best = np.inf
    for labels in itertools.product(range(2), repeat=3):
        total = 0.0
        for word in set(labels):
            outs = [at for at, label in enumerate(labels) if label == word]
            solution = torch.linalg.lstsq(
                x.repeat(len(outs), 1), torch.cat([y[:, at] for at in outs])[:, None]
            ).solution
            total += sum(float((y[:, at] - (x @ solution)[:, 0]).square().sum()) for at in outs)
        best = min(best, total / float(y.square().sum()))
    ends = []
    for seed in range(4):
        codebook, labels = pqfit.kmeans(net[0].weight.detach()[None], 2, seed=seed)
        ends.append(correct(responses, codebook, labels[..., None], sweeps=20, damping=0.0).errors[-1])
    assert min(ends) == pytest.approx(best, rel=1e-3)


def test_exactly_representable_layers_are_recovered(nets: tuple[Net, Net]) -> None:
    reference, _ = nets
    form = filled(pq.Product((12, 2, 3, 3), 2, 4))
    reference.conv.weight.data = form().detach()
    codebook, indices = quantized(reference, "conv", 2, 4)
    found = correct(collect(reference, reference, "conv", PIXELS, SPEC), codebook, indices, sweeps=5)
    assert found.errors[-1] < 1e-8


@pytest.fixture(scope="module")
def digits() -> Split:
    return load_data("digits")


@pytest.fixture(scope="module")
def model(digits: Split) -> HashModel:
    arch = default_arch("lenet300", 10, InputSpec((1, 8, 8), (0.3,), (0.4,)), widths=(60, 40))
    return HashModel(build(arch, seed=0).eval(), arch)


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
    plan = ProductQuantize(width=1, entries=256, precision="float32").decide(model)
    assert set(plan["left"]) == {"encoder.fc1", "encoder.fc2", "head"}
    assert "would replace 1600" in plan["left"]["head"]


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
    plan = ProductQuantize(sweeps=0, skip=("head",)).decide(model)
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
