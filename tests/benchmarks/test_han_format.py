"""Deep Compression's own format, which benchmarks measure: round trips, the paper's example, Huffman against Kraft and entropy."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.lib import hanformat


@pytest.mark.parametrize("huffman", [False, True])
@pytest.mark.parametrize(("gap_bits", "density"), [(3, 0.05), (4, 0.3), (5, 0.08), (8, 0.01), (4, 0.0), (2, 1.0)])
def test_round_trip_to_the_bit(huffman, gap_bits, density):
    random = np.random.default_rng(3)
    shape = (40, 7, 3, 3)
    codebook = np.concatenate([[0], random.normal(size=16)]).astype(np.float32)
    indices = np.where(random.random(shape) < density, random.integers(1, 17, shape) ** 2 // 16, 0)
    bias = random.normal(size=40).astype(np.float32)
    layer = hanformat.encode(indices, codebook, bias, gap_bits, huffman=huffman)
    weight, same = hanformat.decode(layer.content, shape, 40)
    np.testing.assert_array_equal(weight, codebook[indices])
    np.testing.assert_array_equal(same, bias)
    with pytest.raises((ValueError, IndexError)):
        hanformat.decode(layer.content + b"\0", shape, 40)
    fixed = hanformat.HEADER.size + 4 * (17 + 40)
    spent = (layer.weight_bits + layer.gap_bits + layer.table_bits) / 8
    assert fixed + spent <= len(layer.content) <= fixed + spent + 2


def test_a_gap_too_long_is_a_filler_zero():
    """Figure 2 of the paper: three bits, values after 1, 4 and 15 places; the third needs a filler 8 places on."""
    indices = np.zeros(16, dtype=np.int64)
    indices[[1, 4, 15]] = 1, 2, 3
    symbols, gaps = hanformat.entries(indices, 3)
    assert symbols.tolist() == [1, 2, 0, 3]
    assert (gaps + 1).tolist() == [2, 3, 8, 3]


def test_fillers_are_as_many_as_chance_says():
    """With density p and g bits a filler comes before a weight q / (1 - q) times, q = (1 - p)^(2^g)."""
    random = np.random.default_rng(0)
    indices = (random.random(400_000) < 0.05).astype(np.int64)
    layer = hanformat.encode(indices, np.array([0, 1]), np.zeros(1), 4, huffman=False)
    q = 0.95**16
    assert layer.fillers / indices.sum() == pytest.approx(q / (1 - q), rel=0.03)
    assert layer.gap_bits == 4 * layer.entries


def test_huffman_codes_are_complete_and_within_a_bit_of_entropy():
    counts = np.random.default_rng(1).geometric(0.02, size=60)
    counts[7] = 0
    lengths = hanformat.code_lengths(counts)
    used = lengths[lengths > 0]
    assert np.sum(0.5**used) == 1
    share = counts[counts > 0] / counts.sum()
    entropy = -(share * np.log2(share)).sum()
    assert entropy <= (lengths * counts).sum() / counts.sum() < entropy + 0.1
    codes = {f"{code:0{length}b}" for code, length in zip(hanformat.canonical(lengths), lengths, strict=True) if length}
    assert len(codes) == 59
    assert not any(a != b and b.startswith(a) for a in codes for b in codes)
