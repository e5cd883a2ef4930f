"""Model files that were written once load, give the codes they gave, and are written again with the same bytes."""

from __future__ import annotations

import hashpress as hp
import numpy as np
import pytest
import torch
from frozen_cases import RUNS, STARTS
from frozen_files import (
    FOLDER,
    NEAR,
    QUERIES,
    changes,
    codes_of,
    committed,
    dense_digest,
    expected,
    file_record,
    outputs,
    pixels,
    same_arithmetic,
)
from hashpress.modelfile.reader import read_dense
from torch.nn import functional

NAMES = [*STARTS, *RUNS]
NUMPY = [  # whose layers are all plain once their weights are decoded
    name
    for name in NAMES
    if not any(edit["kind"] in ("factored", "int8") for edit in expected()["files"][name]["edits"])
    and expected()["files"][name]["arch"]["encoder"] in ("lenet300", "smallconv")
]


def assert_same_codes(values, codes):
    """Compare codes (N, bytes) with the signs of outputs (N, bits): only signs of outputs near zero may differ."""
    bits = np.unpackbits(codes, axis=1, count=values.shape[1], bitorder="little").astype(bool)
    wrong = (values >= 0) != bits
    assert values.shape[0] == QUERIES
    assert not (wrong & (np.abs(values) > NEAR * np.abs(values).mean())).any()


def test_every_file_is_recorded_and_the_other_way_round():
    assert sorted(path.stem for path in FOLDER.iterdir()) == sorted(NAMES) == sorted(expected()["files"])
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 3_000_000


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_what_it_was(name):
    found, wanted = file_record(committed(name)), expected()["files"][name]
    assert changes(found | {"ledger": wanted.get("ledger")}, wanted, 0.001, exact=same_arithmetic()) == []
    assert found["sha256"] == wanted["sha256"]
    assert_same_codes(outputs(hp.load(committed(name))), codes_of(wanted))


@pytest.mark.parametrize("name", NAMES)
def test_a_loaded_model_is_written_again_with_the_same_bytes(name, tmp_path):
    hp.save(hp.load(committed(name)), tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == committed(name).read_bytes()


@pytest.mark.parametrize("name", NUMPY)
def test_the_reader_without_torch_decodes_weights_that_give_the_same_codes(name):
    record = expected()["files"][name]
    state = {key: torch.from_numpy(array.astype(np.float64)) for key, array in read_dense(committed(name)).items()}
    model = hp.load(committed(name))
    images = model.arch.input.normalise(pixels(tuple(model.arch.input.shape))).double()
    values = {"lenet300": lenet300, "smallconv": smallconv}[record["arch"]["encoder"]](images, state)
    assert dense_digest(committed(name)) == record["dense"] or not same_arithmetic()
    assert_same_codes(values.numpy(), codes_of(record))


def dense(values, state, name):
    return functional.linear(values, state[f"{name}.weight"], state[f"{name}.bias"])


def conv(values, state, name):
    return functional.conv2d(values, state[f"{name}.weight"], state[f"{name}.bias"], padding=2)


def mean(values):
    return functional.avg_pool2d(values, 3, 2, ceil_mode=True, count_include_pad=False)


def lenet300(images, state):
    hidden = dense(images.flatten(1), state, "encoder.fc1").relu()
    return dense(dense(hidden, state, "encoder.fc2").relu(), state, "head")


def smallconv(images, state):
    hidden = functional.max_pool2d(conv(images, state, "encoder.conv1"), 3, 2, ceil_mode=True).relu()
    hidden = mean(conv(hidden, state, "encoder.conv2").relu())
    hidden = mean(conv(hidden, state, "encoder.conv3").relu())
    return dense(dense(hidden.flatten(1), state, "encoder.fc1").relu(), state, "head")
