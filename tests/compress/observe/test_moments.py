"""What bounds the memory of measuring on images: how many run together, in what precision sums are kept."""

import numpy as np
import pytest
import torch
from hashpress.compress.channels import least_squares
from hashpress.compress.integers import ranges
from hashpress.compress.observe import importance, sampling
from hashpress.compress.passes import Cp, Int8, LowRank, Merge, ProductQuantize, Prune
from hashpress.core.data import load_data
from hashpress.core.data.images import Selection, fitting_batch
from hashpress.core.inputs import ImageInput
from hashpress.core.model import HashModel
from hashpress.hashnets.build import default_arch, untrained
from torch import nn


def test_large_images_run_fewer_at_a_time():
    large, small = np.broadcast_to(np.uint8(0), (400, 3, 224, 224)), np.broadcast_to(np.uint8(0), (400, 3, 32, 32))
    assert [fitting_batch(pixels, 100, sampling.VALUES) for pixels in (large, small, small[:7])] == [6, 100, 7]
    assert [len(part) for _, part in sampling.batches(large[:14], "parts")] == [6, 6, 2]
    assert [place for place, _ in sampling.batches(large[:14], "parts")] == [0, 6, 12]


def test_large_weights_keep_their_energy_in_single_precision(monkeypatch):
    digits = load_data("digits?size=16")
    arch = default_arch("lenet5", 8, ImageInput((1, 16, 16), digits.mean, digits.std), widths=[4, 6, 10])
    model = untrained(arch, seed=0)
    paths = ["encoder.conv2", "encoder.fc1", "head"]
    exact = importance.output_energy(model, digits.train.pixels, paths, batches=5)
    monkeypatch.setattr(importance, "LARGE", 60)
    rough = importance.output_energy(model, digits.train.pixels, paths, batches=5)
    assert {str(energy.dtype) for energy in exact.values()} == {"float64"}
    assert {str(energy.dtype) for energy in rough.values()} == {"float32"}
    for path in paths:
        assert exact[path] == pytest.approx(rough[path], rel=1e-4)
    assert all(value.grad is None and not value._post_accumulate_grad_hooks for value in model.net.parameters())
    assert torch.isfinite(torch.from_numpy(rough["head"])).all()


def test_energy_of_a_dense_layer_alone_that_runs_twice_before_a_relu_in_place(monkeypatch):
    digits = load_data("digits")
    dense = nn.Linear(64, 64)
    net = nn.Sequential(nn.Flatten(), dense, nn.ReLU(inplace=True), dense, nn.ReLU(inplace=True), nn.Linear(64, 8))
    arch = default_arch("lenet5", 8, ImageInput((1, 8, 8), digits.mean, digits.std))
    model, pixels = HashModel(net, arch, ()), digits.train.pixels
    exact = importance.output_energy(model, pixels, ["1"], batches=3)["1"]
    monkeypatch.setattr(importance, "LARGE", 60)
    assert importance.output_energy(model, pixels, ["1"], batches=3)["1"] == pytest.approx(exact, rel=1e-4)


def test_a_selection_gives_the_parts_of_the_array_and_copies_nothing_else():
    images = load_data("digits").train
    index = np.array([7, 2, 2, 90])
    chosen, wanted = images.select(index), images.pixels[index]
    assert np.shares_memory(chosen.whole, images.pixels)
    assert (len(chosen), chosen.shape) == (4, wanted.shape)
    for part in (slice(1, 3), slice(None), slice(3, 9), np.array([3, 0])):
        assert np.array_equal(chosen[part], wanted[part])


@pytest.mark.parametrize(
    "work",
    [
        Cp(share=0.5, data=True, images=700),
        LowRank(speedup=1.1, images=700),
        Merge(share=0.3, refit=700),
        Prune(density=0.5, compensate="obs", images=700),
        ProductQuantize(width=2, entries=4, samples=700),
        Int8(images=700),
    ],
    ids=lambda work: type(work).__name__.lower(),
)
def test_passes_never_hold_all_images_they_look_at(work, monkeypatch):
    sizes = images_together(work, monkeypatch)
    assert 1 < max(sizes) <= 500
    assert sum(sizes) >= 700


def test_int8_runs_large_images_few_at_a_time(monkeypatch):
    monkeypatch.setattr(ranges, "VALUES", 5 * 16 * 16)
    assert max(images_together(Int8(images=20), monkeypatch)) == 5


def images_together(work, monkeypatch):
    """Return how many images a pass on 16x16 digits takes out of its choice at each time."""
    digits = load_data("digits?size=16")
    assert len(digits.train) >= 700
    arch = default_arch("lenet5", 8, ImageInput((1, 16, 16), digits.mean, digits.std), widths=[4, 6, 10])
    sizes, read = [], Selection.__getitem__

    def watched(self, part):
        sizes.append(len(read(self, part)))
        return read(self, part)

    monkeypatch.setattr(Selection, "__getitem__", watched)
    work(untrained(arch, seed=0), digits, seed=0)
    return sizes


def test_a_view_has_the_networks_memory_but_for_what_is_written():
    arch = default_arch("lenet5", 8, ImageInput((1, 16, 16), (0.3,), (0.35,)), widths=[4, 6, 10])
    model = untrained(arch, seed=0)
    model.net.encoder.fc1.bias = model.net.encoder.conv2.bias = torch.nn.Parameter(torch.zeros(6))  # tied
    net = model.copy_sharing_memory(writing=["encoder.conv2"])
    own = {
        path
        for (path, value), (_, seen) in zip(model.net.named_parameters(), net.named_parameters(), strict=True)
        if value.data_ptr() != seen.data_ptr()
    }
    assert own == {"encoder.conv2.weight", "encoder.conv2.bias"}
    assert net.encoder.fc1.bias is net.encoder.conv2.bias
    assert not net.training
    net.requires_grad_(requires_grad=False)
    assert all(value.requires_grad for value in model.net.parameters())


def whole(fit):
    """Return the change of all outputs (d + 1, O) at a ridge of 0.001."""
    return torch.cat([change for _, change in fit.solved(1e-3)], 1)


@pytest.mark.parametrize("biased", [True, False])
def test_few_rows_give_the_same_fit_as_their_squares(biased):
    layer, random = torch.nn.Linear(40, 3, bias=biased), torch.Generator().manual_seed(0)
    few, squared = least_squares._Normal(layer, 15, 0), least_squares._Normal(layer, 21, 0)
    for _ in range(3):
        part = torch.randn(5, 40, generator=random), torch.randn(5, 3, generator=random)
        few.add(*part)
        squared.add(*part)
    assert few.squares is None
    assert squared.squares is not None
    change = whole(few)
    torch.testing.assert_close(change, whole(squared), rtol=1e-6, atol=1e-9)
    assert biased == bool(change[-1].any())


@pytest.mark.parametrize("rows", [6, 60])
def test_a_fit_in_parts_is_the_fit_by_least_squares(rows, monkeypatch):
    """Outputs a few at a time: what numpy gives for all at once, with the ridge as rows of its own."""
    monkeypatch.setattr(least_squares, "TOGETHER", 3)
    random = torch.Generator().manual_seed(0)
    fit = least_squares._Normal(torch.nn.Linear(20, 7), rows, 0)
    parts = [(torch.randn(6, 20, generator=random), torch.randn(6, 7, generator=random)) for _ in range(rows // 6)]
    for part in parts:
        fit.add(*part)
    assert len(fit.inputs) == (
        rows if rows == 6 else 3
    )  # all rows where they are few, else as many as are squared together
    x, y = (torch.cat(several).double().numpy() for several in zip(*parts, strict=True))
    ridge = 1e-3 * np.square(x).sum(0).mean()
    padded = np.hstack([x, np.ones((rows, 1))])
    wanted = np.linalg.lstsq(
        np.vstack([padded, np.sqrt(ridge) * np.eye(21)]), np.vstack([y, np.zeros((21, 7))]), rcond=None
    )[0]
    found = list(fit.solved(1e-3))
    assert [part for part, _ in found] == [slice(0, 3), slice(3, 6), slice(6, 9)]
    assert torch.cat([change for _, change in found], 1).numpy() == pytest.approx(wanted, abs=1e-9)
    assert fit.squares is None  # used up


def test_a_refit_in_parts_is_that_of_all_outputs(monkeypatch):
    digits = load_data("digits?size=16")
    arch = default_arch("lenet5", 8, ImageInput((1, 16, 16), digits.mean, digits.std), widths=[4, 6, 10])
    model = untrained(arch, seed=0)
    work = Merge(share=0.3, refit=40, kinds=("conv", "dense"))
    whole = work(model, digits).net
    monkeypatch.setattr(least_squares, "TOGETHER", 3)
    parts = work(model, digits).net
    for (path, value), other in zip(whole.named_parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(value, other, rtol=1e-5, atol=1e-6, msg=path)


def test_factors_take_the_place_of_their_matrix():
    """A refit's largest matrix has no copy beside it: on AlexNet that alone is as large as a third of the model."""
    rows = torch.randn(9, 9, generator=torch.Generator().manual_seed(0)).double()
    square = rows @ rows.T
    wanted = torch.linalg.solve(square, rows)
    factors = least_squares._factored(square)
    assert factors[0].data_ptr() == square.data_ptr()
    torch.testing.assert_close(torch.linalg.lu_solve(*factors, rows), wanted)
