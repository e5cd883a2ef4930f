"""Sums of products against numpy's covariance, on rows that are far from zero."""

import numpy as np
import pytest
import torch
from hashpress.compress.observe import covariance
from hashpress.compress.observe.covariance import SecondMoments
from hashpress.compress.observe.moments import Moments

RANDOM = np.random.default_rng(0)
X = 1000 + RANDOM.normal(size=(500, 7)) @ RANDOM.normal(size=(7, 7))
Y = -300 + X[:, :3] ** 2 / 1000 + RANDOM.normal(size=(500, 3))
PORTIONS = [slice(0, 1), slice(1, 130), slice(130, 500)]


@pytest.mark.parametrize("strip", [2, 256])
@pytest.mark.parametrize("kind", [torch.float64, torch.float32])
def test_centred_sums_are_the_covariance(strip, kind, monkeypatch):
    monkeypatch.setattr(covariance, "STRIP", strip)
    moments = SecondMoments(7, 3)
    shift = np.round(X[:9].mean(0)), np.round(Y[:9].mean(0))  # near the mean, and not the mean
    x, y = (torch.from_numpy(values - near) for values, near in zip((X, Y), shift, strict=True))
    for part in PORTIONS:
        moments.add(x[part].to(kind), y[part].to(kind))
    moments.centre(x.mean(0), y.mean(0), len(x))
    wanted = np.cov(X.T, Y.T, bias=True)
    bound = 1e-9 if kind is torch.float64 else 2e-4
    assert moments.gram.numpy() / len(X) == pytest.approx(wanted[:7, :7], rel=bound, abs=bound)
    assert moments.cross.numpy() / len(X) == pytest.approx(wanted[:7, 7:], rel=bound, abs=bound)
    assert moments.gram.dtype == moments.cross.dtype == torch.float64


def test_arrays_give_the_same_sums():
    moments, arrays = SecondMoments(7), SecondMoments(7)
    for part in PORTIONS:
        arrays.add_array(X[part])
        moments.add(torch.from_numpy(X[part]), torch.empty(part.stop - part.start, 0).double())
    assert arrays.gram.numpy() == pytest.approx(X.T @ X, rel=1e-12)
    assert arrays.gram.numpy() == pytest.approx(moments.gram.numpy(), rel=1e-12)


@pytest.mark.parametrize("rows", [3, 500])  # few stay as they are, many are added up
def test_moments_of_rows_far_from_zero(rows):
    far, moments = X[:rows] + 1e6, Moments(7)
    for start in range(0, rows, 100):
        moments.add(far[start : start + 100])
    assert moments.mean == pytest.approx(far.mean(0), rel=1e-12)
    assert moments.covariance == pytest.approx(np.cov(far.T, bias=True), rel=1e-7, abs=1e-7)
