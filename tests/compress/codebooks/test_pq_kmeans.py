"""Codewords against scikit-learn and brute force; error correction against responses computed by unfolding."""

import itertools

import numpy as np
import pytest
import torch
from hashpress.compress.codebooks import pq_kmeans
from hashpress.compress.codebooks.pq_correct import correct
from hashpress.compress.observe.hooks import calls
from hashpress.compress.observe.layer_io import collect
from hashpress.core.inputs import ImageInput
from hashpress.modelfile.layers import pq
from random_codewords import filled
from sklearn.cluster import KMeans
from torch import nn
from torch.nn import functional

SPEC = ImageInput((4, 9, 8), (0.5,) * 4, (0.25,) * 4)


def test_kmeans_finds_clusters_and_beats_every_start_of_its_own() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(3, 8, 4, generator=generator) * 20
    labels = torch.arange(400) % 8
    points = centres[:, labels] + torch.randn(3, 400, 4, generator=generator) * 0.01
    found, assigned = pq_kmeans.kmeans(points, 8, seed=1)
    for group in range(3):
        pairs = {(int(a), int(b)) for a, b in zip(labels, assigned[group], strict=True)}
        assert len(pairs) == 8
        for true, own in pairs:
            torch.testing.assert_close(found[group, own], points[group][labels == true].mean(0), atol=1e-4, rtol=0)


def test_kmeans_ends_at_a_fixed_point_near_scikit_learns() -> None:
    points = torch.randn(2, 500, 3, generator=torch.Generator().manual_seed(0))
    found, labels = pq_kmeans.kmeans(points, 16, seed=0, iterations=300)
    again, _ = pq_kmeans.nearest(points, found)
    assert torch.equal(again, labels.long())
    torch.testing.assert_close(pq_kmeans.means(points, labels, found), found)
    own = float((points - found.gather(1, labels.long()[..., None].expand(-1, -1, 3))).square().sum())
    theirs = sum(KMeans(16, n_init=1, random_state=0).fit(part.numpy()).inertia_ for part in points)
    assert own < 1.1 * theirs
    repeated = pq_kmeans.kmeans(points, 16, seed=0, iterations=300)
    assert torch.equal(repeated[0], found)


def test_as_many_codewords_as_sub_vectors_lose_nothing() -> None:
    points = torch.randn(5, 12, 3)
    codebook, labels = pq_kmeans.kmeans(points, 12, seed=0)
    torch.testing.assert_close(codebook.gather(1, labels.long()[..., None].expand(-1, -1, 3)), points)
    same = points[:, :1].expand(-1, 6, -1)
    codebook, labels = pq_kmeans.kmeans(same, 4, seed=0)
    torch.testing.assert_close(codebook.gather(1, labels.long()[..., None].expand(-1, -1, 3)), same)
    many = torch.randn(1, 300, 3)
    codebook, labels = pq_kmeans.kmeans(many, 300, seed=0)  # more than a byte can number
    torch.testing.assert_close(codebook.gather(1, labels.long()[..., None].expand(-1, -1, 3)), many)


def test_canonical_labels_keep_the_weight_and_sort_by_use() -> None:
    form = filled(pq.ProductQuantizedWeight((40, 6, 2, 2), 2, 7))
    before = form().detach()
    codebook, indices = pq_kmeans.canonical(form.codebook.data, form.indices.long())
    form.codebook.data, form.indices = codebook, indices.to(torch.uint8)
    assert torch.equal(form(), before)
    for part in indices:
        assert (torch.bincount(part.view(-1), minlength=7).diff() <= 0).all()


def test_channel_order_is_a_permutation_that_lowers_the_error() -> None:
    generator = torch.Generator().manual_seed(0)
    factors = torch.randn(400, 4, generator=generator)
    groups = torch.arange(16) % 4  # channels that belong together stand four apart
    weight = (factors[:, groups] + 0.2 * torch.randn(400, 16, generator=generator))[:, :, None, None]
    order = pq_kmeans.channel_order(weight, 4, seed=0)
    assert sorted(order.tolist()) == list(range(16))
    assert all(len({int(groups[channel]) for channel in part}) == 1 for part in order.view(4, 4))

    def error(arranged: torch.Tensor) -> float:
        points = pq_kmeans.subvectors(arranged, 4)
        codebook, labels = pq_kmeans.kmeans(points, 16, seed=0)
        return float((points - codebook.gather(1, labels.long()[..., None].expand(-1, -1, 4))).square().sum())

    assert error(weight[:, order]) < 0.5 * error(weight)
    assert pq_kmeans.channel_order(weight[:, :5], 4, seed=0).sort().values.tolist() == list(range(5))


def test_channels_beyond_a_block_are_ordered_in_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pq_kmeans, "BLOCK", 8)
    weight = torch.randn(30, 20, 3, 3, generator=torch.Generator().manual_seed(0))
    order = pq_kmeans.channel_order(weight, 4)
    assert [sorted(part.tolist()) for part in order.split(8)] == [[*range(8)], [*range(8, 16)], [*range(16, 20)]]


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


def test_responses_are_inputs_of_one_and_outputs_of_the_other(
    nets: tuple[Net, Net], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second moments agree with those of explicit patches at every place of every image."""
    monkeypatch.setattr("hashpress.compress.observe.covariance.STRIP", 5)
    reference, net = nets
    images = SPEC.normalise(PIXELS)
    assert [path for path, _ in calls(net, ["dense", "conv"], SPEC)] == ["conv", "dense"]
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
    points = pq_kmeans.subvectors(weight, width)
    codebook, labels = pq_kmeans.kmeans(points, entries, seed=0)
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
        form = pq.ProductQuantizedWeight(tuple(layer.weight.shape), width, 5)
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
    spec = ImageInput((2, 1, 1), (0.0, 0.0), (1.0, 1.0))
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
        codebook, labels = pq_kmeans.kmeans(net[0].weight.detach()[None], 2, seed=seed)
        ends.append(correct(responses, codebook, labels[..., None], sweeps=20, damping=0.0).errors[-1])
    assert min(ends) == pytest.approx(best, rel=1e-3)


def test_exactly_representable_layers_are_recovered(nets: tuple[Net, Net]) -> None:
    reference, _ = nets
    form = filled(pq.ProductQuantizedWeight((12, 2, 3, 3), 2, 4))
    reference.conv.weight.data = form().detach()
    codebook, indices = quantized(reference, "conv", 2, 4)
    found = correct(collect(reference, reference, "conv", PIXELS, SPEC), codebook, indices, sweeps=5)
    assert found.errors[-1] < 1e-8


def test_the_original_weight_is_read_in_the_order_of_the_inputs(nets: tuple[Net, Net]) -> None:
    reference, net = nets
    order = torch.randperm(240, generator=torch.Generator().manual_seed(0)).to(torch.int32)
    group = collect(reference, net, "dense", PIXELS, SPEC, order=order).groups[0]
    plain = collect(reference, net, "dense", PIXELS, SPEC).groups[0]
    assert torch.equal(group.inputs, plain.inputs[:, :, order.long()])
    weight = reference.dense.weight.detach()[3:9, order.long()[200:]]
    found = group.original(slice(3, 9), slice(200, 244))
    assert torch.equal(found[:, 0], functional.pad(weight, (0, 4)))
    assert group.weight.data_ptr() == reference.dense.weight.data_ptr(), "no copy of a large layer"


def test_inputs_that_depend_on_each_other_far_from_zero_can_be_fitted() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 2), nn.Linear(2, 48), nn.Linear(48, 8)).eval()
    nn.init.constant_(net[2].bias, 3000.0)
    spec = ImageInput((1, 8, 8), (0.5,), (0.25,))
    pixels = np.random.default_rng(0).integers(0, 256, (400, 1, 8, 8), dtype=np.uint8)
    group = collect(net, net, "3", pixels, spec).groups[0]
    inputs, targets = group.inputs.flatten(1).double(), group.targets.double()
    assert inputs.isfinite().all()
    assert len(inputs) == 48, "second moments, not the samples"
    with torch.no_grad():
        seen = net[:3](spec.normalise(pixels)).double()
        wanted = torch.cov(seen.T, correction=0) * len(pixels)
    torch.testing.assert_close(inputs.T @ inputs, wanted, rtol=0, atol=0.05 * float(wanted.diagonal().mean()))
    assert targets.isfinite().all()


def test_the_last_samples_count_where_they_are_few() -> None:
    """One image more than fits three batches, unlike all others: one sample waits for more, which never come."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Linear(8, 3)).eval()
    spec = ImageInput((1, 8, 8), (0.5,), (0.25,))
    pixels = np.random.default_rng(0).integers(0, 20, (151, 1, 8, 8), dtype=np.uint8)
    pixels[-1] = 255
    inputs = collect(net, net, "2", pixels, spec).groups[0].inputs.flatten(1).double()
    with torch.no_grad():
        wanted = torch.cov(net[:2](spec.normalise(pixels)).double().T, correction=0) * len(pixels)
    torch.testing.assert_close(inputs.T @ inputs, wanted, rtol=1e-3, atol=1e-3)


def test_many_inputs_of_one_kind_can_be_fitted() -> None:
    """Products in single precision of inputs that all say the same have eigenvalues far below zero."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 1), nn.Linear(1, 600), nn.Linear(600, 4)).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (1500, 1, 8, 8), dtype=np.uint8)
    group = collect(net, net, "3", pixels, ImageInput((1, 8, 8), (0.5,), (0.25,))).groups[0]
    assert group.inputs.isfinite().all()
    assert group.targets.isfinite().all()
