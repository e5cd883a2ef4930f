"""Networks that differ in one layer: what is left out before it changes no bit, and where it would, nothing is left out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hashpress.compress.observe import replay
from hashpress.compress.observe.replay import Replay
from hashpress.core.data import load_data
from hashpress.core.data.images import Split
from hashpress.core.inputs import ImageInput
from hashpress.core.layers import get_layer
from hashpress.core.model import HashModel
from hashpress.hashnets.build import default_arch, untrained
from hashpress.hashnets.retrieval.codes import outputs


@pytest.fixture(scope="module")
def split() -> Split:
    return load_data("digits?limit=120")


def network(encoder: str, split: Split) -> HashModel:
    return untrained(default_arch(encoder, 12, ImageInput.of(split)), seed=1, trust_code=True)


def altered(model: HashModel, path: str) -> HashModel:
    net = model.copy_sharing_memory(writing=[path])
    with torch.no_grad():
        next(get_layer(net, path).parameters()).mul_(-1e6)
    return HashModel(net, model.arch, model.edits)


@pytest.mark.parametrize(
    ("encoder", "path", "left_out"),
    [
        ("smallconv", "encoder.conv1", 0),  # nothing stands before it
        ("smallconv", "encoder.conv2", 2),  # with the pooling between them
        ("smallconv", "head", 1),  # the encoder as a whole
        ("resnet20", "encoder.layer2.0.conv1", 0),  # a shortcut goes round it
        ("resnet20", "head", 1),
        ("resnet20", "encoder.layer2.1", 4),  # a block: the stem, what follows it, a stage, a block
        ("nets_foreign:twice", "encoder.again", 0),  # its second inputs come from its first outputs
        ("nets_foreign:twice", "encoder.out", 1),  # what is called twice runs, on no numbers
        ("nets_foreign:shut", "encoder.gate", 0),  # nothing goes round it as long as the gate gives zeros
        ("nets_foreign:alias", "encoder.source", 0),  # a layer before it has the same weight
        ("nets_foreign:normed_read", "encoder.conv", 0),  # its weight is read elsewhere, maybe before it
        ("nets_foreign:unused", "encoder.aux", 0),  # it never runs
    ],
)
def test_outputs_are_those_of_the_whole_network(
    encoder: str, path: str, left_out: int, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "outputs", lambda model, pixels: outputs(model, pixels, batch=50))
    model, pixels = network(encoder, split), split.train.pixels
    kept = Replay(model, path, pixels)
    assert len(kept.shapes) == left_out
    assert len(kept.inputs) == (-(-len(pixels) // 50) if left_out else 0)
    changed = altered(model, path)
    wanted = outputs(changed, pixels, batch=50)
    np.testing.assert_array_equal(kept.outputs(changed), wanted)
    np.testing.assert_array_equal(kept.outputs(changed), wanted)
    np.testing.assert_array_equal(outputs(changed, pixels, batch=50), wanted)  # nothing stays in the network
    if path != "encoder.aux":
        assert not np.array_equal(wanted, outputs(model, pixels, batch=50))


@pytest.mark.parametrize(
    ("encoder", "path", "replayed"),
    [
        ("smallconv", "encoder.conv2", "encoder.conv2"),
        ("resnet20", "encoder.layer2.0.conv1", "encoder.layer2.0"),
        ("resnet20", "encoder.layer3.2.conv2", "encoder.layer3.2"),
        ("nets_foreign:normed_read", "encoder.conv", "encoder.conv"),  # nothing can be left out: as asked
    ],
)
def test_a_block_is_replayed_where_a_shortcut_goes_round_the_layer(
    encoder: str, path: str, replayed: str, split: Split
) -> None:
    model, pixels = network(encoder, split), split.train.pixels
    kept = Replay.around(model, path, pixels)
    assert kept.path == replayed
    changed = altered(model, path)
    np.testing.assert_array_equal(kept.outputs(changed), outputs(changed, pixels))
