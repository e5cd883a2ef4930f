"""Codewords at a price on bits against k-means, brute force and the bytes of files."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hashpress.compress.codebooks import pq_kmeans, pq_rate
from hashpress.compress.codebooks.pq import ProductQuantize
from hashpress.compress.finetune.finetune import Finetune
from hashpress.core.data import load_data
from hashpress.core.data.images import Split
from hashpress.core.errors import RecipeError
from hashpress.core.inputs import ImageInput
from hashpress.core.model import HashModel
from hashpress.hashnets.build import default_arch, untrained
from hashpress.hashnets.retrieval.codes import outputs
from hashpress.modelfile.file import content, file_size, load, save
from hashpress.modelfile.layers.codeword_grid import grid_steps
from hashpress.modelfile.layers.densify import densified


def gaussian(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def error_of(points: torch.Tensor, codebook: torch.Tensor, labels: torch.Tensor) -> float:
    rebuilt = np.stack([codebook[at].numpy()[labels[at].numpy()] for at in range(len(points))])
    return float(np.square(points.numpy() - rebuilt).mean())


def bits_of(labels: torch.Tensor, entries: int) -> float:
    """Bits a label of an ideal coder that sees each subspace's codewords by their use."""
    counts = np.stack([np.sort(np.bincount(part.numpy(), minlength=entries))[::-1] for part in labels]).sum(0)
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log2(share)).sum())


def test_more_entries_at_a_price_beat_a_fixed_rate() -> None:
    points = gaussian(8, 4096, 4)
    fixed, own = pq_kmeans.kmeans(points, 32, seed=1, iterations=100)
    codebook, labels = pq_rate.priced(points, 48, 0.34, seed=1)
    assert error_of(points, codebook, labels) <= error_of(points, fixed, own)
    assert bits_of(labels, 48) < bits_of(own, 32) - 0.1
    # and no code does better than the rate-distortion function of a normal source
    assert bits_of(labels, 48) / 4 > -0.5 * np.log2(error_of(points, codebook, labels))


def test_a_higher_price_trades_bits_for_error() -> None:
    points, found = gaussian(4, 1000, 2), []
    for price in (1e-4, 0.05, 0.2, 0.8):
        codebook, labels = pq_rate.priced(points, 24, price, seed=0)
        found.append((bits_of(labels, 24), error_of(points, codebook, labels), codebook.shape[1]))
    bits, errors, entries = zip(*found, strict=True)
    assert all(a > b for a, b in itertools.pairwise(bits))
    assert all(a < b for a, b in itertools.pairwise(errors))
    assert entries[0] == 24 > entries[-1]
    free, own = pq_kmeans.kmeans(points, 24, seed=0, iterations=100)
    assert errors[0] < 1.05 * error_of(points, free, own)


def test_labels_are_the_cheapest_by_brute_force() -> None:
    points, price = gaussian(3, 300, 2), 0.1
    codebook, labels = pq_rate.priced(points, 12, price, seed=0)
    counts = np.stack([np.bincount(part.numpy(), minlength=codebook.shape[1]) for part in labels])
    pooled = np.sort(counts, axis=1)[:, ::-1].sum(0)
    bits = -np.log2(np.maximum(pooled, 0.5) / pooled.sum())
    missed = 0.0
    for at in range(3):
        length = np.empty(codebook.shape[1])
        length[np.argsort(-counts[at], kind="stable")] = bits
        cost = np.square(points[at].numpy()[:, None] - codebook[at].numpy()).sum(2) + price * length
        missed += float((cost[np.arange(300), labels[at].numpy()] - cost.min(1)).sum() / cost.min(1).sum())
    assert missed / 3 < 0.01  # the last assignment paid what the sweep before it had counted


def test_the_grid_of_codewords_costs_least_in_error_and_bits_together() -> None:
    price, share = 0.07, 0.02
    steps = np.exp(np.linspace(-8, 2, 4001))
    total = steps**2 / 12 - price * share * np.log2(steps)
    assert (
        pq_rate.grid_step(price, share) <= steps[np.argmin(total)] * 1.01 < 2 * pq_rate.grid_step(price, share) * 1.02
    )
    codebook, _ = pq_rate.priced(gaussian(2, 200, 3), 8, price, seed=0)
    step = pq_rate.grid_step(price, 8 / 200)
    assert np.array_equal(np.mod(codebook.numpy(), step), np.zeros(codebook.shape))
    assert not torch.signbit(codebook[codebook == 0]).any()


@pytest.fixture(scope="module")
def digits() -> Split:
    return load_data("digits")


@pytest.fixture(scope="module")
def model() -> HashModel:
    arch = default_arch("lenet300", 10, ImageInput((1, 8, 8), (0.3,), (0.4,)), widths=(400, 300))
    return untrained(arch, seed=0)


SIZES = {"width": 4, "entries": 32, "skip": ("head",)}


def weight_error(model: HashModel, small: HashModel) -> float:
    dense = densified(small).net
    pairs = [
        (model.net.get_parameter(name), dense.get_parameter(name))
        for name in ("encoder.fc1.weight", "encoder.fc2.weight")
    ]
    away, whole = (
        sum(float(v.detach().square().sum()) for v in vs) for vs in ([a - b for a, b in pairs], [a for a, _ in pairs])
    )
    return away / whole


def test_files_at_a_price_are_smaller_at_no_larger_error(model: HashModel, tmp_path: Path) -> None:
    plain = ProductQuantize(**SIZES, sweeps=0)(model)
    same = ProductQuantize(**SIZES, sweeps=0, lam={"dense": 0.0})(model)
    assert file_size(same) <= file_size(plain) + 40  # the setting's own text
    assert all(torch.equal(value, plain.net.state_dict()[name]) for name, value in same.net.state_dict().items())
    sizes, errors = [file_size(plain)], [weight_error(model, plain)]
    for lam in (0.25, 0.6):
        small = ProductQuantize(**{**SIZES, "entries": 44}, sweeps=0, lam=lam)(model)
        sizes.append(file_size(small))
        errors.append(weight_error(model, small))
    assert sizes[0] * 0.9 > sizes[1] > sizes[2]
    assert errors[1] <= errors[0] < errors[2] < 2 * errors[0]
    save(small, tmp_path / "small.safetensors")
    again = load(tmp_path / "small.safetensors")
    assert all(torch.equal(value, again.net.state_dict()[name]) for name, value in small.net.state_dict().items())
    assert again.history[-1].settings["lam"] == 0.6
    assert content(again) == content(small)


def test_error_correction_pays_for_bits_too(model: HashModel, digits: Split) -> None:
    wanted, found = outputs(model, digits.queries.pixels), []
    for lam in (0.0, 0.3):
        small = ProductQuantize(**SIZES, sweeps=3, samples=400, lam=lam)(model, digits, seed=1)
        away = float(((outputs(small, digits.queries.pixels) - wanted) ** 2).mean())
        indices = [small.net.get_buffer(f"encoder.{name}.form.indices") for name in ("fc1", "fc2")]
        found.append((file_size(small), away, sum(bits_of(part.long(), 32) for part in indices)))
    assert found[1][0] < 0.95 * found[0][0]
    assert found[1][2] < found[0][2] - 0.2
    assert found[1][1] < 1.6 * found[0][1]


@pytest.mark.parametrize("lam", [-0.1, {"dense": float("nan")}, {"re:(": 0.1}])
def test_prices_out_of_range(lam: object) -> None:
    with pytest.raises(RecipeError, match="lam"):
        ProductQuantize(lam=lam)


def test_training_keeps_codewords_on_the_grid_of_the_file(model: HashModel, digits: Split) -> None:
    priced, plain = (
        ProductQuantize(**SIZES, sweeps=0, lam=lam, precision=precision)(model)
        for lam, precision in ((0.3, "float16"), (0.0, "float32"))
    )
    steps = grid_steps(priced.net)
    assert steps.keys() == {"encoder.fc1.form", "encoder.fc2.form"}
    assert not grid_steps(plain.net)
    tuned = Finetune(epochs=2, lr=0.01, match="outputs")(priced, digits, reference=model)
    assert grid_steps(tuned.net) == steps
    assert file_size(tuned) < 1.05 * file_size(priced)
    before, after = (one.net.get_parameter("encoder.fc1.form.codebook") for one in (priced, tuned))
    moved = (after - before) / steps["encoder.fc1.form"]
    assert torch.equal(moved, moved.round())
    assert moved.abs().max() >= 1
