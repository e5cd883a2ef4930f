"""Code lengths by the formula of Shannon in plain Python; the step at a price by trying all of them."""

import math

import numpy as np
import pytest
from hashpress.modelfile.coding.rate import UNUSED, code_lengths, step_at, total_bits

COUNTS = [5, 0, 1, 90, 32, 0]


def test_lengths_are_minus_the_logarithms_of_shares():
    used = [-math.log2(count / 128) if count else None for count in COUNTS]
    charged = code_lengths(np.array(COUNTS), unused=UNUSED)
    assert charged == pytest.approx([UNUSED if bits is None else bits for bits in used], rel=1e-15)
    halves = code_lengths(np.array(COUNTS))
    assert halves == pytest.approx([-math.log2(0.5 / 128) if bits is None else bits for bits in used], rel=1e-15)


def test_the_total_is_the_entropy_times_the_symbols():
    text = [symbol for symbol, count in enumerate(COUNTS) for _ in range(count)]
    entropy = -sum(count / 128 * math.log2(count / 128) for count in COUNTS if count)
    assert total_bits(np.array(COUNTS)) == pytest.approx(entropy * len(text))
    assert total_bits(np.array(COUNTS), np.arange(6.0)) == 2 * 1 + 3 * 90 + 4 * 32
    assert total_bits(np.array([7])) == 0
    assert total_bits(np.zeros(3, dtype=int)) == 0


@pytest.mark.parametrize(("price", "share", "weight"), [(0.3, 1.0, 1.0), (1e-3, 0.25, 1.0), (2.0, 1.0, 50.0)])
def test_no_other_step_costs_less(price, share, weight):
    steps = np.geomspace(1e-4, 1e2, 200_001)
    cost = weight * steps**2 / 12 - price * share * np.log2(steps)
    assert step_at(price, share, weight) == pytest.approx(steps[cost.argmin()], rel=1e-3)
