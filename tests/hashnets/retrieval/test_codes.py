"""Codes, packing and Hamming distances against numpy and faiss."""

from __future__ import annotations

import faiss
import numpy as np
import pytest
import torch
from hashpress.core.errors import InputError
from hashpress.core.inputs import ImageInput
from hashpress.core.model import Arch, HashModel
from hashpress.hashnets.retrieval.codes import hamming, outputs, pack, unpack
from hashpress.hashnets.retrieval.metrics import count
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn


def model(net: nn.Module, bits: int) -> HashModel:
    return HashModel(net, Arch("test", bits, ImageInput((1, 2, 2), (0.5,), (0.25,))))


@given(st.integers(1, 70), st.integers(0, 9), st.integers(0, 10**6))
def test_pack_and_unpack_are_inverse(bits, count, seed):
    values = np.random.default_rng(seed).normal(size=(count, bits))
    codes_nb = pack(values)
    assert codes_nb.shape == (count, -(-bits // 8))
    assert (unpack(codes_nb, bits) == (values >= 0)).all()


def test_bit_k_is_the_sign_of_output_k_with_zero_as_one():
    codes_nb = pack(np.array([[-1, 0.0, -0.0, 5, -1, -1, -1, -1, 2]]))
    assert codes_nb.tolist() == [[0b00001110, 0b1]]


@pytest.mark.parametrize("bits", [1, 8, 12, 48, 64, 65, 128, 255, 256, 300])
def test_hamming_is_brute_force_and_faiss(bits):
    random = np.random.default_rng(bits)
    left, right = random.normal(size=(17, bits)), random.normal(size=(33, bits))
    distances = hamming(pack(left), pack(right))
    assert (distances == ((left >= 0)[:, None] != (right >= 0)).sum(2)).all()
    index = faiss.IndexBinaryFlat(pack(right).shape[1] * 8)
    index.add(pack(right))
    found, neighbours = index.search(pack(left), 33)
    assert (np.sort(distances, axis=1) == found).all()
    assert (np.take_along_axis(distances, neighbours, axis=1) == found).all()


@pytest.mark.parametrize("bits", [8, 64, 192, 248, 255, 256, 257, 320, 512, 2048])
def test_distances_of_opposite_codes_do_not_wrap(bits):
    """At 256 bits all bits differ in one more than a byte counts."""
    ones, zeros = pack(np.ones((1, bits))), pack(-np.ones((1, bits)))
    assert hamming(ones, zeros).tolist() == [[bits]]
    counts = count(ones, np.concatenate([zeros, ones]), bits, lambda rows: np.array([[False, True]]))
    assert counts.items[0].nonzero()[0].tolist() == [0, bits]
    assert counts.relevant[0].nonzero()[0].tolist() == [0]


def test_hamming_works_in_blocks(monkeypatch):
    monkeypatch.setattr("hashpress.hashnets.retrieval.codes.PAIRS", 10)
    random = np.random.default_rng(0)
    left, right = random.integers(0, 256, (7, 3), np.uint8), random.integers(0, 256, (5, 3), np.uint8)
    assert (hamming(left, right) == np.unpackbits(left[:, None] ^ right, axis=2).sum(2)).all()
    assert hamming(left[:0], right).shape == (0, 5)
    assert hamming(left, right[:0]).shape == (7, 0)


def test_codes_of_other_types_are_refused():
    with pytest.raises(InputError, match="uint8"):
        hamming(np.zeros((1, 2), np.int64), np.zeros((1, 2), np.uint8))
    with pytest.raises(InputError, match="one width"):
        hamming(np.zeros((1, 2), np.uint8), np.zeros((1, 3), np.uint8))
    with pytest.raises(InputError, match="codes of 12 bits"):
        unpack(np.zeros((1, 3), np.uint8), 12)


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=1, max_side=12).map(lambda s: (*s, 1, 2, 2))))
def test_outputs_are_the_networks_in_any_batch(pixels):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    values = outputs(model(net, 3), pixels, batch=5)
    weight, bias = net[1].weight.detach().numpy(), net[1].bias.detach().numpy()
    expected = ((pixels.reshape(-1, 4) / 255 - 0.5) / 0.25) @ weight.T + bias
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, expected, atol=1e-5)


def test_outputs_run_in_evaluation_mode_and_leave_the_mode_alone():
    net = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(4, 3))
    pixels = np.random.default_rng(0).integers(0, 256, (8, 1, 2, 2), np.uint8)
    for training in (True, False):
        net.train(training)
        assert (outputs(model(net, 3), pixels) == outputs(model(net, 3), pixels)).all()
        assert net[1].training == training


def test_outputs_refuse_what_is_not_a_number_and_other_shapes():
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    with pytest.raises(InputError, match="shape"):
        outputs(model(net, 3), np.zeros((1, 3, 2, 2), np.uint8))
    nn.init.constant_(net[1].weight, float("nan"))
    with pytest.raises(InputError, match="item 0 are not numbers"):
        outputs(model(net, 3), np.zeros((1, 1, 2, 2), np.uint8))


def test_large_images_run_few_at_a_time():
    seen = []

    class Counting(nn.Module):
        def forward(self, x):
            seen.append(len(x))
            return x.flatten(1)[:, :3]

    spec = ImageInput((3, 256, 256), (0.5,) * 3, (0.25,) * 3)
    pixels = np.broadcast_to(np.uint8(7), (100, 3, 256, 256))
    outputs(HashModel(Counting(), Arch("x:y", 3, spec)), pixels)
    assert seen == [31, 31, 31, 7]
