"""How many values each frequency gets: shares in proportion to scipy's beta density, and the whole budget however steep it is."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hashpress.compress.structured.bands import band_sizes

ROOM = {(64, 32, 3, 3): (1, 2, 3, 2, 1), (32, 16, 5, 5): (1, 2, 3, 4, 5, 4, 3, 2, 1), (8, 4, 1, 3): (1, 1, 1)}


def room(shape):
    return np.array(ROOM[shape]) * shape[0] * shape[1]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("shape", ROOM)
@pytest.mark.parametrize(
    ("alpha", "beta"),
    [(0.25, 2.5), (0.25, 1000.0), (1000.0, 2.5), (1e4, 2e4), (0.25, 1e308), (1e308, 1e308), (1e-300, 1e-300)],
)
def test_the_whole_budget_is_used(shape, alpha, beta):
    most = room(shape)
    for values in (1, len(most), len(most) + 1, most.sum() // 50, most.sum() // 3, most.sum() - 1, most.sum() + 9):
        sizes = np.array(band_sizes(shape, int(values), alpha, beta))
        assert sizes.sum() == min(max(values, len(most)), most.sum())
        assert ((sizes >= 1) & (sizes <= most)).all()


@pytest.mark.parametrize("shape", ROOM)
@pytest.mark.parametrize(("alpha", "beta"), [(0.25, 2.5), (0.5, 30.0), (3.0, 60.0), (90.0, 60.0), (400.0, 300.0)])
def test_shares_are_in_proportion_to_the_density(shape, alpha, beta):
    """Between their bounds, any two bands are kept in proportion to the density; a band at a bound deserves no less or more."""
    most = room(shape)
    places = (np.arange(len(most)) + 1) / (len(most) + 1)
    density = scipy.stats.beta.logpdf(places, alpha, beta) + np.log(most)
    for values in (most.sum() // 50, most.sum() // 3):
        sizes = np.array(band_sizes(shape, int(values), alpha, beta))
        low, high = np.log(np.maximum(sizes - 1, 1e-9)) - density, np.log(sizes + 1) - density
        least = max([*low[sizes > 1], -np.inf])  # the level is above what gives each band one value less
        largest = min([*high[sizes < most], np.inf])  # and below what gives it one more
        assert least <= largest


@pytest.mark.filterwarnings("error")
def test_a_steep_density_fills_one_frequency_after_the_other():
    assert band_sizes((64, 32, 3, 3), 2000, 0.25, 1000.0) == (1996, 1, 1, 1, 1)
    assert band_sizes((64, 32, 3, 3), 3000, 0.25, 1e5) == (2048, 949, 1, 1, 1)
    assert band_sizes((64, 32, 3, 3), 3000, 1e5, 0.25) == (1, 1, 1, 949, 2048)


def test_ordinary_settings_are_what_they_were():
    """Files that were written name these sizes."""
    assert band_sizes((64, 32, 5, 5), 3200, 0.25, 2.5) == SIZES
    assert band_sizes((32, 16, 5, 5), 1280, 2.0, 2.0) == (22, 78, 153, 234, 305, 234, 154, 78, 22)


SIZES = (669, 667, 604, 515, 414, 207, 90, 29, 5)
