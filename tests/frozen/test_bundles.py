"""Bundles of frozen files for this machine: the codes, the manifest's keys and the model inside are what they were."""

from __future__ import annotations

import numpy as np
import pytest
from frozen_bundles import BUNDLES, bundle_record
from frozen_files import NEAR, codes_of, committed, digest, expected, outputs
from hashpress import load

CASES = [pytest.param(name, marks=pytest.mark.slow if slow else ()) for name, slow in BUNDLES.items()]


@pytest.fixture(scope="module", params=CASES)
def found(request, tmp_path_factory):
    """The name of a frozen file and the record of its bundle, compiled once."""
    return request.param, bundle_record(request.param, tmp_path_factory.mktemp("bundles") / "one.bundle")


def test_a_bundle_is_what_it_was(found):
    name, record = found
    wanted = expected()["bundles"][name]
    assert record["parts"] == wanted["parts"]
    assert record["manifest"] == wanted["manifest"]
    assert record["model"] == wanted["model"] == expected()["files"][name]["sha256"]
    assert record["model"] == digest(committed(name).read_bytes())


def test_a_bundle_gives_the_codes_that_torch_gave(found):
    name, record = found
    wanted = codes_of(expected()["files"][name])
    values = outputs(load(committed(name)))
    near = np.abs(values) <= NEAR * np.abs(values).mean()
    wrong = np.unpackbits(codes_of(record) ^ wanted, axis=1, count=values.shape[1], bitorder="little").astype(bool)
    assert not (wrong & ~near).any()
    assert wrong.mean() < 0.001
